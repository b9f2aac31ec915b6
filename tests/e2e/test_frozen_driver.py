"""Callers that are stopped while a revision converges, in a lab: they begin no request by rules that have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.checkers import Outcome
from lab.checkers.revision_timeline import SETTLING_NS
from lab.lab import Lab
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually
from scenarios.framework.steps import PHONES, load_on, seen_by, table_with, under_load, verdict_of

ASK_A_RESOLVER = [each.name for each in TOPOLOGIES.values() if "resolver" in each.asks and each.in_default_lab]
WITHIN = timedelta(seconds=15)


@contextmanager
def stopped_driver() -> Iterator[None]:
    """The driver that this process has started, stopped for the block."""

    def drivers() -> list[psutil.Process]:
        found = []
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended since
                if "lab.load.driver" in each.cmdline():
                    found.append(each)
        return found

    [driver] = eventually("the driver runs", drivers, within=WITHIN)
    driver.suspend()
    try:
        yield
    finally:
        driver.resume()


@pytest.mark.parametrize("topology", ASK_A_RESOLVER)
def test_a_driver_that_is_stopped_during_a_publish_begins_no_request_by_ended_rules(
    lab: Lab, routes: Path, tmp_path: Path, topology: str
) -> None:
    with under_load(lab, load_on(topology, rate=200, users=50, contexts=PHONES)) as load:
        for version in ("v2", "v1", "v2"):
            with stopped_driver():
                lab.routes.publish(table_with(routes, tmp_path, default=f"cw-ranker@{version}"))
                settled_ns = time.time_ns() + SETTLING_NS
                eventually("the revision has settled", time.time_ns, within=WITHIN, until=settled_ns.__lt__)

    result = load.result()
    # A request that is in flight while its driver is stopped may miss its deadline; it has no version then.
    assert seen_by(result, "version") >= {"v1", "v2"}
    assert (result.misrouted, verdict_of(result, "staleness")) == (0, Outcome.VALID)
