"""Models move freely; only callers with hard-coded addresses notice."""

from __future__ import annotations

from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scenarios.framework.steps import (
    assert_all_answered_rightly,
    await_unloaded,
    load_on,
    moved_table,
    seen_by,
    statuses_of,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

RATE_RPS = 200.0
MOVES, PAUSE_S = 6, 0.5
KEY = "cw-ranker.v1"
# A phone in Germany is ranked by the default, cw-ranker@v1, which is the one that moves.
CONTEXTS = {"device": ("phone", "tv"), "country": ("DE", "US")}


@pytest.fixture
def moved(routes: Path, tmp_path: Path) -> Path:
    """The default route table with one model version on another cluster."""
    return moved_table(routes, tmp_path)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=6)
def test_a_model_moves_and_no_caller_notices(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, moved: Path
) -> None:
    """A model version moves back and forth between two clusters: no request fails or is misrouted."""
    with (
        under_load(lab, load_on(topology, RATE_RPS, contexts=CONTEXTS)) as run,
        scenario.step(f"Move the model {MOVES} times, back and forth"),
    ):
        for number in range(MOVES):
            lab.routes.publish(moved if number % 2 == 0 else routes)
            wait([run], timeout=PAUSE_S)
    with scenario.step("Judge every answer"):
        result = run.result()
    assert_all_answered_rightly(result)
    assert seen_by(result, "cluster") >= {"ml-cluster-1", "ml-cluster-5"}, "no request saw the move"


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=6, topologies=("direct",))
def test_a_move_breaks_hard_coded_addresses(scenario: Scenario, lab: Lab, moved: Path) -> None:
    """Callers with hard-coded addresses keep calling replicas that no longer serve the model."""
    with under_load(lab, load_on("direct", RATE_RPS, contexts={})) as run, scenario.step("Move the model, and wait"):
        lab.routes.publish(moved)
        await_unloaded(lab, "ml-cluster-1", KEY)
    with scenario.step("Count who was refused"):
        result = run.result()
    assert result.summary.ok > 0, "it never worked"
    assert result.summary.failed > 0, "no request noticed the move"
    assert statuses_of(result) == {"OK", "FAILED_PRECONDITION"}
