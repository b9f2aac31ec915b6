"""Versions roll under load without a failed or misrouted request; an unsafe roll is caught."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.ops.roll.conditions import DEFAULT_CONDITIONS, parse_conditions
from lab.ops.roll.executor import RollOptions
from lab.routing.document import read_path
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import (
    USE_CASE,
    assert_all_answered_rightly,
    assert_rate_was_kept,
    clusters_with,
    load_on,
    seen_by,
    set_behaviour,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import LoadOptions, RunResult
    from scenarios.framework.scenario import Scenario
    from scenarios.framework.steady import SteadyState

MODEL = "cw-ranker"
CLUSTER, OTHERS = "ml-cluster-1", [f"ml-cluster-{number}" for number in range(2, 7)]
WARM_UP_MS = 300.0
PAUSE_S = 1.0


@dataclass(frozen=True)
class Versions:
    """Route tables with one version of the model each, so that every roll loads one and unloads the other."""

    v1: Path
    v2: Path


@pytest.fixture
def versions(lab: Lab, steady: SteadyState, routes: Path, tmp_path: Path) -> Iterator[Versions]:
    """The first table is in force, the second version is not loaded, and loading takes a while."""
    paths = {}
    for version, cluster in {"v1": CLUSTER, "v2": _without(lab, f"{MODEL}.v2")}.items():
        document = read_path(routes).document
        use_case = document["use_cases"][USE_CASE]
        use_case["default"], use_case["rules"] = f"{MODEL}@{version}", []
        document["models"][MODEL]["versions"] = {version: {"cluster": cluster}}
        paths[version] = tmp_path / f"{version}.yaml"
        paths[version].write_text(json.dumps(document))
    set_behaviour(lab, stub_pb2.Behaviour(warm_up_ms=WARM_UP_MS))
    lab.routes.publish(paths["v1"])
    yield Versions(**paths)
    set_behaviour(lab, steady.behaviour)


def _without(lab: Lab, key: str) -> str:
    """A cluster that does not hold the version: one that an earlier scenario used keeps it for a while."""
    holding = clusters_with(lab, key)
    return next(cluster for cluster in OTHERS if cluster not in holding)


def _rolled_back_and_forth(
    scenario: Scenario,
    versions: Versions,
    load: LoadOptions,
    rolls: int,
    *,
    lasting_s: float = 0,
    unsafe_skip_phases: bool = False,
) -> RunResult:
    """The result of a load during rolls, a second apart or evenly over ``duration``."""
    lab = scenario.lab
    with under_load(lab, load) as run:
        began = time.monotonic()
        for number in range(rolls):
            version = "v2" if number % 2 == 0 else "v1"
            with scenario.step(f"Roll to {version}{', all phases at once' if unsafe_skip_phases else ''}"):
                table = getattr(versions, version)
                lab.routes.publish(
                    table, comment=f"roll {number + 1} of {rolls}", unsafe_skip_phases=unsafe_skip_phases
                )
            next_at = began + lasting_s * (number + 1) / rolls
            wait([run], timeout=max(PAUSE_S, next_at - time.monotonic()))
    with scenario.step("Judge every answer"):
        result = run.result()
    assert seen_by(result, "version") - {""} == {"v1", "v2"}, "nobody saw a roll"
    return result


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=11)
def test_rolls_under_load_misroute_nothing(scenario: Scenario, topology: str, versions: Versions) -> None:
    """Versions that load slowly are rolled four times, and no request fails."""
    result = _rolled_back_and_forth(scenario, versions, load_on(topology, rate=200, users=10_000), rolls=4)

    assert_all_answered_rightly(result)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=8)
def test_a_roll_without_make_before_break_is_caught(scenario: Scenario, topology: str, versions: Versions) -> None:
    """Rules that go out before models are loaded cost requests, and the verdict says so."""
    load = load_on(topology, rate=300, users=10_000)
    result = _rolled_back_and_forth(scenario, versions, load, rolls=2, unsafe_skip_phases=True)

    # While a version loads, no replica answers: at 300 rps for 300 ms that is about 90 requests a roll.
    assert result.summary.failed > 0 or result.misrouted > 0, result.folder
    assert result.outcome == "invalid", result.folder
    with pytest.raises(AssertionError):
        assert_all_answered_rightly(result)


@pytest.mark.long
@pytest.mark.scenario(takes_s=90)
@pytest.mark.timeout(600)
def test_an_equal_version_rolls_through_all_steps(scenario: Scenario, topology: str, routes: Path) -> None:
    """A version that is as good as the old one gets through all steps, by all conditions."""
    lab = scenario.lab
    lab.routes.publish(routes)
    options = RollOptions(
        model=MODEL,
        to="v2",
        steps=(1, 10, 50, 100),
        hold_s=10.0,
        conditions=parse_conditions(DEFAULT_CONDITIONS),
        use_case=None,
        force=False,
        probe=load_on(topology, rate=100, users=10_000),
    )
    with scenario.step("Roll by 1, 10, 50 and 100 %"):
        result = lab.roll(options)

    assert result.outcome == "completed", result.reason
    assert [each.percent for each in result.steps] == [1, 10, 50, 100]


@pytest.mark.long
@pytest.mark.scenario(takes_s=205)
@pytest.mark.timeout(600)
def test_twenty_rolls_misroute_nothing(scenario: Scenario, topology: str, versions: Versions) -> None:
    """A version is rolled twenty times while a hundred thousand requests come in."""
    # Poisson arrivals scatter by √n: 5 σ of 103,000 are 1,605, so there are never fewer than 100,000.
    load = load_on(topology, rate=515, duration_s=260, users=10_000)
    result = _rolled_back_and_forth(scenario, versions, load, rolls=20, lasting_s=200)

    assert_all_answered_rightly(result)
    assert_rate_was_kept(result)
    assert result.summary.ok >= 100_000
