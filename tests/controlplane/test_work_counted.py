"""A publish of one change does as much work in a large table as in a small one: instructions are counted, not time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

import lab.routing
import services.controlplane
from lab.routing.document import RouteTable, Source
from lab.routing.edits import with_changes
from services.controlplane.api import registration
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.publishing.publisher import Publisher, Timeouts
from services.controlplane.registry.records import Event, Phase
from services.controlplane.registry.revisions import Registry
from services.controlplane.xds.delta import DeltaStream
from tests.controlplane.nodes import running
from tests.waiting import eventually

SMALL, LARGE = 100, 800
"""Models, and twice as many use cases."""
MORE = 1.25
"""How many times the small table's work the large one's may be; eight times where all entries are visited."""
CLUSTERS = ("c-1", "c-2")
COUNTED = tuple(str(Path(each.__path__[0])) for each in (lab.routing, services.controlplane))

USE_CASE = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "50ms", "default": "model-7@v1"}
MOVED = {"versions": {"v1": {"cluster": "c-2"}, "v2": {"cluster": "c-1"}}}
MORE_VERSIONS = {"versions": {**MOVED["versions"], "v3": {"cluster": "c-1"}}}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"use_cases": {"UseCase7": {**USE_CASE, "default": "model-7@v2"}}},
    "timeout": {"use_cases": {"UseCase7": {**USE_CASE, "timeout": "70ms"}}},
    "settings": {"use_cases": {"UseCaseNew": {**USE_CASE, "default": "model-9@v2", "retries": {"attempts": 3}}}},
    "callers": {"use_cases": {"UseCase7": {**USE_CASE, "callers": ["homepage", "search"]}}},
    "new use case": {"use_cases": {"UseCaseNew": USE_CASE}},
    "move": {"models": {"model-7": MOVED}},
    "new version": {"models": {"model-7": MORE_VERSIONS}},
    "both": {"use_cases": {"UseCase7": {**USE_CASE, "default": "model-7@v3"}}, "models": {"model-7": MORE_VERSIONS}},
}


def _table(models: int) -> RouteTable:
    place = {"v1": {"cluster": "c-1"}, "v2": {"cluster": "c-1"}}
    use_cases = {f"UseCase{n}": {**USE_CASE, "default": f"model-{n % models}@v1"} for n in range(2 * models)}
    return RouteTable.from_document(
        {
            # Models that nothing changes are in clusters of their own.
            "use_cases": use_cases,
            "models": {
                f"model-{n}": {
                    "versions": place if n == 7 else {v: {"cluster": f"other-{n % 2}"} for v in ("v1", "v2")}
                }
                for n in range(models)
            },
            "clusters": {name: {"replicas": 1} for name in (*CLUSTERS, "other-0", "other-1")},
        }
    )


class _Counter:
    """Counts the instructions that this thread executes in the control plane and in the routing core."""

    def __init__(self) -> None:
        self.instructions = 0

    def __enter__(self) -> Self:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(COUNTED) or name == registration.__file__:  # replicas report by the clock
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._executed

    def _executed(self, _frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        self.instructions += event == "opcode"
        return self._executed


def _edit(change: dict[str, dict[str, Any]]) -> Callable[[RouteTable], RouteTable]:
    use_cases, models = (
        {name: Source("change.yaml", json.dumps(entry)) for name, entry in change.get(section, {}).items()}
        for section in ("use_cases", "models")
    )
    return lambda before: with_changes(before, use_cases=use_cases, models=models)


async def _work(
    models: int, change: dict[str, dict[str, Any]], registry: Path, stages: Sequence[Sequence[str]] = ((),)
) -> int:
    with closing(Registry(registry)) as opened:
        async with running(opened, Timeouts(load=10.0, acknowledge=10.0, settle=0.0, retire=0.05)) as control_plane:
            for name in (*CLUSTERS, "other-0", "other-1"):
                await control_plane.replica(name, "a")
            await control_plane.follower("homepage-resolver")
            publisher = control_plane.publisher
            for caller in ("homepage", "search", None):
                subscriber = Subscriber(f"{caller}-sidecar", "sidecar")
                publisher.fleet.store.add_listener(DeltaStream(publisher.fleet.store, subscriber, caller=caller))
            await control_plane.publish(_table(models))
            await _retired(publisher)
            with _Counter() as counter:
                for callers in stages:
                    await publisher.publish(
                        _edit(change), author="ada", comment="", expected_revision=0, progress=_ignored, callers=callers
                    )
                await _retired(publisher)
            return counter.instructions


def _ignored(_revision: int, _event: Event) -> None:
    pass


async def _retired(publisher: Publisher) -> None:
    def phases() -> set[Phase]:
        stored = publisher.registry.get(publisher.revision)
        return {event.phase for event in stored.events} if stored else set()

    await eventually("the table before is retired", lambda: Phase.RETIRED in phases())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_change_costs_the_same_in_a_table_of_any_size(change: dict[str, Any], tmp_path: Path) -> None:
    small = await _work(SMALL, change, tmp_path / "small.sqlite")
    large = await _work(LARGE, change, tmp_path / "large.sqlite")

    assert large <= MORE * small, f"{small:,} instructions with {SMALL} models, {large:,} with {LARGE}"


async def test_a_stage_and_its_end_cost_the_same_in_a_table_of_any_size(tmp_path: Path) -> None:
    placed = {version: {"cluster": "c-1"} for version in ("v1", "v2", "v3")}
    use_case = {**USE_CASE, "callers": ["homepage", "search"], "default": "model-7@v3"}
    change: dict[str, dict[str, Any]] = {
        "use_cases": {"UseCase7": use_case},
        "models": {"model-7": {"versions": placed}},
    }
    stages = (["homepage"], ["search"], list[str]())
    small = await _work(SMALL, change, tmp_path / "small.sqlite", stages)
    large = await _work(LARGE, change, tmp_path / "large.sqlite", stages)

    assert large <= MORE * small, f"{small:,} instructions with {SMALL} models, {large:,} with {LARGE}"
