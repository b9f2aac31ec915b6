"""Models move all the time, and no request fails for it."""

from __future__ import annotations

import json
import time
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.client.admin import AdminClient
from lab.routing.document import read_path
from scenarios.framework.steps import (
    AT_MOST_S,
    PHONES,
    assert_all_answered_rightly,
    assert_rate_was_kept,
    load_on,
    moved_table,
    seen_by,
    under_load,
)

if TYPE_CHECKING:
    from lab.runs import RunResult
    from scenarios.framework.scenario import Scenario

    Tables = tuple[tuple[str, str], tuple[str, str]]

RATE_RPS = 200.0
BEHIND = 0.5
"""How far changes may fall behind their even schedule, as a share of the whole; a slower run tests something else."""


def _changed(scenario: Scenario, topology: str, tables: Tables, *, changes: int, seconds: float) -> None:
    """Moves a model back and forth between two clusters under load; each publish returns when all nodes have it."""
    made, took_s, result = _moved(scenario, topology, tables, changes=changes, seconds=seconds)
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(result)
    assert seen_by(result, "cluster") == {"ml-cluster-1", "ml-cluster-5"}, "no request saw a change"
    scenario.figure("changes", f"{made} in {took_s:.1f} s")
    kept_up = made == changes and took_s <= seconds * (1 + BEHIND)
    too_slow = f"this machine makes {made} changes in {took_s:.0f} s, not {changes} in {seconds:g} s"
    assert_rate_was_kept(result, behind="" if kept_up else too_slow)


def _moved(
    scenario: Scenario, topology: str, tables: Tables, *, changes: int, seconds: float
) -> tuple[int, float, RunResult]:
    """Changes made, seconds taken, and the load's result; stops once it is too far :data:`BEHIND`."""
    duration_s = seconds * (1 + BEHIND) + AT_MOST_S
    load = load_on(topology, RATE_RPS, duration_s=duration_s, users=10_000, contexts=PHONES)
    made, took_s, due_s = 0, 0.0, 0.0
    with (
        AdminClient(scenario.lab.endpoints().control_plane) as admin,
        under_load(scenario.lab, load) as run,
        scenario.step(f"Move the model {changes} times in {seconds:g} s"),
    ):
        began = time.monotonic()
        while made < changes and took_s <= due_s + seconds * BEHIND:
            admin.publish([tables[made % 2]], author="scenario")
            made += 1
            due_s = made * seconds / changes
            wait([run], timeout=max(0.0, began + due_s - time.monotonic()))
            took_s = time.monotonic() - began
    return made, took_s, run.result()


@pytest.fixture
def tables(routes: Path, tmp_path: Path) -> Tables:
    """Name and text of the moved table and of the default one, as JSON, which parses fastest."""
    paths = (moved_table(routes, tmp_path), routes)
    moved, default = ((path.with_suffix(".json").name, json.dumps(read_path(path).document)) for path in paths)
    return moved, default


@pytest.mark.scenario(takes_s=10, topologies=("gateway", "mesh", "proxyless"))
def test_a_hundred_changes_lose_no_request(scenario: Scenario, topology: str, tables: Tables) -> None:
    """A model version moves between clusters seventeen times a second, under load."""
    _changed(scenario, topology, tables, changes=100, seconds=6)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.scenario(takes_s=68, topologies=("gateway", "mesh", "proxyless"))
def test_a_thousand_changes_lose_no_request(scenario: Scenario, topology: str, tables: Tables) -> None:
    """A model version moves between clusters seventeen times a second for a minute, under load."""
    _changed(scenario, topology, tables, changes=1_000, seconds=60)
