"""Callers that are stopped while a revision converges, in a lab: they begin no request by rules that have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import psutil
import pytest

from lab import CHECKOUT
from lab.checkers import Outcome
from lab.checkers.revision_timeline import SETTLING_NS
from lab.lab import Lab
from lab.runs import RunResult
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually
from scenarios.framework.steps import PHONES, load_on, seen_by, table_with, under_loads, verdict_of

ASK_A_RESOLVER = [each.name for each in TOPOLOGIES.values() if "resolver" in each.asks and each.in_default_lab]
WITHIN = timedelta(seconds=15)


@contextmanager
def stopped_drivers(number: int) -> Iterator[None]:
    """The drivers that this process has started, that many, stopped for the block."""

    def drivers() -> list[psutil.Process]:
        found = []
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended since
                if "lab.load.driver" in each.cmdline():
                    found.append(each)
        return found

    found = eventually("the drivers run", drivers, within=WITHIN, until=lambda found: len(found) == number)
    for driver in found:
        driver.suspend()
    try:
        yield
    finally:
        for driver in found:
            driver.resume()


@pytest.fixture(scope="module")
def runs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunResult]]:
    """A run over each topology, all at the same time, whose drivers are stopped during each of three publishes."""
    routes, folder = CHECKOUT / "routes.yaml", tmp_path_factory.mktemp("tables")
    loads = [load_on(each, rate=200, users=50, contexts=PHONES) for each in ASK_A_RESOLVER]
    with under_loads(lab, *loads) as running:
        for version in ("v2", "v1", "v2"):
            with stopped_drivers(len(loads)):
                lab.routes.publish(table_with(routes, folder, default=f"cw-ranker@{version}"))
                settled_ns = time.time_ns() + SETTLING_NS
                eventually("the revision has settled", time.time_ns, within=WITHIN, until=settled_ns.__lt__)
    yield {load.topology: run.result() for load, run in zip(loads, running, strict=True)}
    lab.routes.publish(routes)


@pytest.mark.parametrize("topology", ASK_A_RESOLVER)
def test_a_driver_that_is_stopped_during_a_publish_begins_no_request_by_ended_rules(
    runs: dict[str, RunResult], topology: str
) -> None:
    result = runs[topology]
    # A request that is in flight while its driver is stopped may miss its deadline; it has no version then.
    assert seen_by(result, "version") >= {"v1", "v2"}
    assert (result.misrouted, verdict_of(result, "staleness")) == (0, Outcome.VALID)
