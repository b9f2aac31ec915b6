"""A resolver or gateway is frozen while a revision is published: nobody gets an answer by rules that have ended."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import CHECKOUT
from lab.checkers import Outcome
from lab.lab import Lab
from lab.runs import RunResult
from lab.waiting import eventually
from scenarios.framework.steps import PHONES, load_on, seen_by, table_with, under_loads, verdict_of

WITHIN = timedelta(seconds=15)
PUBLISHED_WITHIN_S = 10.0
OF_DECIDER = {"homepage-resolver": ("mesh", "gateway-header", "proxyless"), "gateway-1": ("gateway",)}
"""Which topologies ask it where to send."""


class Frozen(NamedTuple):
    """A run during which a decider was frozen, and how long a publish took then."""

    run: RunResult
    took_s: float


@pytest.fixture(scope="module")
def frozen(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Frozen]:
    """A run over each topology, those that ask the same decider at the same time."""
    folder = tmp_path_factory.mktemp("tables")
    return {name: each for decider in OF_DECIDER for name, each in _runs_beside(decider, lab, folder).items()}


def _runs_beside(decider: str, lab: Lab, folder: Path) -> dict[str, Frozen]:
    """A run over each topology that asks it; it is frozen during a publish."""
    routes = CHECKOUT / "routes.yaml"
    other_way, other_caller = ("mesh", "search") if decider == "gateway-1" else ("gateway", "homepage")
    loads = [load_on(each, rate=100, users=20, contexts=PHONES) for each in OF_DECIDER[decider]]

    def answered_by() -> str:
        use_case = "ContinueWatchingRanking" if other_caller == "homepage" else "SearchRanking"
        return lab.call(use_case, topology=other_way, caller=other_caller, context={"device": "phone"}).version

    lab.routes.publish(table_with(routes, folder, default="cw-ranker@v1"))
    try:
        with under_loads(lab, *loads) as running:
            lab.units.pause(decider)
            try:
                began = time.monotonic()
                lab.routes.publish(table_with(routes, folder, default="cw-ranker@v2"))
                took_s = time.monotonic() - began
                in_force_ns = time.time_ns() + 500_000_000
                assert answered_by() == ("v2" if other_caller == "homepage" else "v1")
                eventually("requests come after it", time.time_ns, within=WITHIN, until=(in_force_ns + 10**9).__lt__)
            finally:
                lab.units.resume(decider)
            eventually("it has caught up", lambda: not _behind(lab), within=WITHIN)
            resumed_ns = time.time_ns() + 500_000_000
            eventually("requests come after that", time.time_ns, within=WITHIN, until=(resumed_ns + 10**9).__lt__)
    finally:
        lab.routes.publish(routes)
    return {load.topology: Frozen(run.result(), took_s) for load, run in zip(loads, running, strict=True)}


@pytest.mark.parametrize("topology", [each for topologies in OF_DECIDER.values() for each in topologies])
def test_a_publish_goes_on_without_it_and_its_callers_get_no_answer_by_ended_rules(
    frozen: dict[str, Frozen], topology: str
) -> None:
    result, took_s = frozen[topology]
    assert took_s < PUBLISHED_WITHIN_S
    assert (result.misrouted, verdict_of(result, "staleness")) == (0, Outcome.VALID)
    assert seen_by(result, "version") >= {"v1", "v2"}


def _behind(lab: Lab) -> list[str]:
    status = lab.status().control_plane
    assert status is not None
    return [each.node for each in (*status.nodes, *status.away) if each.behind]
