"""Models move freely, and only those who have written addresses down notice."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest

from lab.runs import LoadOptions
from scenarios.steps import assert_all_answered_rightly, moved_table, records_of, under_load

if TYPE_CHECKING:
    from pathlib import Path

    from lab.lab import Lab
    from scenarios.scenario import Scenario

RATE_RPS = 200.0
DURATION_S = 4.0
MOVES = 6
# What a version is kept for when nobody may be on the way to it any longer: the time-out of a use case, and a second.
UNLOADED_AFTER_S = 3.0


@pytest.fixture
def moved(routes: Path, tmp_path: Path) -> Path:
    """The default route table with one model version on another cluster."""
    return moved_table(routes, tmp_path)


def _load(topology: str, duration_s: float, contexts: dict[str, tuple[str, ...]] | None = None) -> LoadOptions:
    # A phone in Germany is ranked by the default, cw-ranker@v1, which is the one that moves.
    return LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=("ContinueWatchingRanking",),
        rate=RATE_RPS,
        duration_s=duration_s,
        contexts=contexts if contexts is not None else {"device": ("phone", "tv"), "country": ("DE", "US")},
    )


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=6)
def test_a_model_moves_to_another_cluster_under_load_and_no_caller_notices(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, moved: Path
) -> None:
    """A model version moves back and forth between two clusters: nothing fails, and nobody is misrouted."""
    with (
        under_load(lab, _load(topology, DURATION_S)) as run,
        scenario.step(f"Move the model {MOVES} times, back and forth"),
    ):
        for number in range(MOVES):
            lab.publish(moved if number % 2 == 0 else routes)
            wait([run], timeout=DURATION_S / (MOVES + 2))  # traffic flows on
    with scenario.step("Judge every answer"):
        result = run.result()
    assert_all_answered_rightly(result)
    seen = {record.cluster for record in records_of(result)}
    assert seen >= {"ml-cluster-1", "ml-cluster-5"}, "the move was not seen by anybody"


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=6, topologies=("direct",))
def test_a_model_that_moves_breaks_whoever_hard_coded_its_address(scenario: Scenario, lab: Lab, moved: Path) -> None:
    """Callers that know addresses go on asking replicas that have unloaded the model."""
    with under_load(lab, _load("direct", UNLOADED_AFTER_S + 3, contexts={})) as run, scenario.step("Move the model"):
        lab.publish(moved)
    with scenario.step("Count who was refused"):
        result = run.result()
    assert result.summary.ok > 0, "it never worked"
    assert result.summary.failed > 0, "nobody noticed the move"
    assert result.summary.by_status.keys() == {"OK", "FAILED_PRECONDITION"}
