"""A page takes many calls, by several callers in a row, and each of them is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lab.checkers import Claim, Outcome
from lab.load.engines import ENGINES
from lab.runs import LoadOptions
from lab.spec import SIZES, read_spec
from scenarios.framework.catalogue import default_topologies
from scenarios.framework.steps import own_lab

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import ParallelResult
    from scenarios.framework.scenario import Scenario

RATE_RPS, SECONDS = 20.0, 4.0
SLOW_CLUSTER, SLOW_MS = "ml-cluster-1", 150  # of the page's first stage


@pytest.fixture(scope="module")
def _paged(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    shipped = read_spec(SIZES["pages"])
    pages = "".join(f"[callers.{name}]\npage = {json.dumps(page)}\n" for name, page in shipped.pages.items())
    spec = f"topologies = {json.dumps(default_topologies())}\n{pages}"
    with own_lab(pytestconfig, tmp_path_factory.mktemp("pages"), spec, shipped.routes.read_text()) as lab:
        yield lab


@pytest.fixture
def paged(_paged: Lab, scenario: Scenario) -> Lab:
    """A lab whose homepage takes twelve calls, by callers three deep."""
    scenario.watch(_paged)
    return _paged


def _drive(lab: Lab, topology: str, **settings: int) -> ParallelResult:
    engine = ENGINES["pages"].plan(page="homepage", **settings)
    load = LoadOptions(topology=topology, caller="homepage", rate=RATE_RPS, duration_s=SECONDS, engine=engine)
    return lab.load_parallel(lab.spread(load))


def _about_pages(driven: ParallelResult) -> str:
    """What the checker of pages says, once every caller's calls were right."""
    for run in driven.runs:
        assert run.claims[Claim.CORRECTNESS] is Outcome.VALID, f"{run.folder}: {run.sentence}"
    [verdict] = [each for run in driven.runs for each in run.verdicts if each.checker == "page"]
    return verdict.summary


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=10)
def test_a_page_is_made_of_its_own_calls(scenario: Scenario, paged: Lab, topology: str) -> None:
    """Homepage asks recommendations, that asks playback, and models see of each call where in the page it belongs."""
    with scenario.step("Ask for pages, each of twelve calls, and cancel some"):
        driven = _drive(paged, topology, cancel_every=10)
    with scenario.step("Judge each page, and each call of it"):
        found = _about_pages(driven)
        assert {run.claims[Claim.AVAILABILITY] for run in driven.runs} == {Outcome.VALID}
    scenario.figure("pages", found)


@pytest.mark.scenario(takes_s=12)
def test_deadlines_and_cancels_reach_every_model(scenario: Scenario, paged: Lab, topology: str) -> None:
    """Models of the first stage are slow: later stages get less time, and a page that is cancelled ends its calls."""
    with scenario.fault("slow", SLOW_CLUSTER, lab=paged, ms=SLOW_MS) as fault:
        with scenario.step("Ask for pages, and cancel every fifth while its first models answer"):
            driven = _drive(paged, topology, cancel_every=5)
        scenario.see_fault(fault)
    with scenario.step("Judge deadlines and cancellations"):
        found = _about_pages(driven)
    scenario.figure("pages", found)
