"""Callers move from the gateway to the mesh one at a time, while they send, and back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

import pytest

from lab.checkers import Claim, Outcome
from lab.runs import LoadOptions
from lab.runs.moving import moving
from lab.spec import SIZES
from scenarios.framework.steps import own_lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

BEFORE, AFTER = "gateway", "mesh"
RATE_RPS, AT_MOST_S = 8.0, 120.0
THIRTY, THIRTY_RATE_RPS, THIRTY_AT_MOST_S = 30, 2.0, 900.0


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=25, topologies=("gateway", "mesh"))
def test_callers_move_over_and_back(scenario: Scenario, lab: Lab) -> None:
    """Every caller moves from the gateway to the mesh and back, one by one: no request fails or is misrouted."""
    _move_over_and_back(scenario, lab, list(lab.callers.show()), RATE_RPS, AT_MOST_S)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.scenario(takes_s=300, topologies=("gateway", "mesh"))
def test_thirty_callers_move_over_and_back(scenario: Scenario, thirty: Lab) -> None:
    """Thirty callers move from the gateway to the mesh one by one, and back: no request fails or is misrouted."""
    callers = list(thirty.callers.show())
    assert len(callers) == THIRTY
    scenario.watch(thirty)
    _move_over_and_back(scenario, thirty, callers, THIRTY_RATE_RPS, THIRTY_AT_MOST_S)


@pytest.fixture
def thirty(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of the talk's thirty callers."""
    shipped = SIZES["full"]
    routes = shipped.parent / tomllib.loads(shipped.read_text())["routes"]
    text = shipped.read_text().replace(routes.name, "routes.yaml")
    with own_lab(pytestconfig, tmp_path_factory.mktemp("thirty"), text, routes.read_text()) as lab:
        yield lab


def _move_over_and_back(
    scenario: Scenario, lab: Lab, callers: Sequence[str], rate_rps: float, at_most_s: float
) -> None:
    options = [
        LoadOptions(topology=BEFORE, caller=each, rate=rate_rps, duration_s=at_most_s, seed=number)
        for number, each in enumerate(callers)
    ]
    with ExitStack() as driving:
        with scenario.step(f"Wait until all {len(callers)} callers are answered by {BEFORE}"):
            moves = driving.enter_context(moving(lab.load_mixture, lab.callers.use, options))
        with scenario.step(f"Move one caller after the other to {AFTER}"):
            for caller in callers:
                moves.to(AFTER, caller)
        with scenario.step(f"Move them back to {BEFORE}"):
            for caller in callers:
                moves.to(BEFORE, caller)
        with scenario.step("Judge every answer"):
            driving.close()
    result = moves.result
    assert len(result.runs) == 3 * len(callers)
    for run in result.runs:
        assert run.counts.failed == run.counts.wrong == 0, f"{run.folder.name}: {run.counts}"
        assert run.claims[Claim.CORRECTNESS] is Outcome.VALID, f"{run.folder.name}: {run.sentence}"
        assert run.claims[Claim.AVAILABILITY] is not Outcome.INVALID, f"{run.folder.name}: {run.sentence}"
    for topology in (BEFORE, AFTER):
        p50_ms = [run.summary.p50_ms for run in result.runs if run.folder.name.startswith(f"{topology}-")]
        scenario.figure(f"median of the callers' p50, {topology}", f"{median(p50_ms):.2f} ms")
