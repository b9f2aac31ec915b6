"""Topologies change all the time, and traffic does not notice."""

from __future__ import annotations

import json
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest

from lab.admin import AdminClient
from lab.routing.document import read_path
from lab.runs import LoadOptions
from scenarios.steps import AT_MOST_S, assert_all_answered_rightly, moved_table, records_of, under_load
from scenarios.verdicts import UnknownError

if TYPE_CHECKING:
    from pathlib import Path

    from scenarios.scenario import Scenario

RATE_RPS = 200.0
# Changes are due at even times; a machine that takes half as long again for them has tried something else.
PATIENCE = 1.5


def _changed(scenario: Scenario, topology: str, routes: Path, moved: Path, *, changes: int, seconds: float) -> None:
    """A model moves back and forth between two clusters so many times in so many seconds, under load."""
    lab = scenario.lab
    load = LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=("ContinueWatchingRanking",),
        rate=RATE_RPS,
        duration_s=seconds * PATIENCE + AT_MOST_S,
        users=10_000,
        contexts={"device": ("phone",)},
    )
    tables = [_as_json(each) for each in (moved, routes)]
    with (
        AdminClient(lab.endpoints().control_plane) as admin,
        under_load(lab, load) as run,
        scenario.step(f"Move the model {changes} times in {seconds:g} s"),
    ):
        began = time.monotonic()
        for number in range(changes):
            admin.publish([tables[number % 2]], author="scenario")
            due = began + (number + 1) * seconds / changes
            wait([run], timeout=max(0.0, due - time.monotonic()))
        took_s = time.monotonic() - began
    scenario.figure("changes", f"{changes} in {took_s:.1f} s")
    if took_s > seconds * PATIENCE:
        raise UnknownError(f"{changes} changes took {took_s:.0f} s on this machine, not {seconds:g}")
    with scenario.step("Judge every answer"):
        result = run.result()
    assert_all_answered_rightly(result)
    assert {"ml-cluster-1", "ml-cluster-5"} == {each.cluster for each in records_of(result)}, "nobody saw a change"


def _as_json(table: Path) -> tuple[str, str]:
    """Name and text for the control plane, which reads JSON in a fraction of the time."""
    return table.with_suffix(".json").name, json.dumps(read_path(table).document)


@pytest.mark.scenario(takes_s=10, topologies=("gateway", "mesh", "proxyless"))
def test_a_hundred_topology_changes_in_six_seconds_fail_and_misroute_nothing(
    scenario: Scenario, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A model version moves between clusters seventeen times a second, under load."""
    _changed(scenario, topology, routes, moved_table(routes, tmp_path), changes=100, seconds=6)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.scenario(takes_s=100, topologies=("gateway", "mesh", "proxyless"))
def test_a_thousand_topology_changes_in_a_minute_fail_and_misroute_nothing(
    scenario: Scenario, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A model version moves between clusters seventeen times a second for a minute, under load."""
    _changed(scenario, topology, routes, moved_table(routes, tmp_path), changes=1_000, seconds=60)
