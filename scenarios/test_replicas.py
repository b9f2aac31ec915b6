"""Replicas that die, freeze, or start cold: how many requests each costs, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.waiting import consistently, eventually
from scenarios.framework.steps import (
    NOTICED_WITHIN_NS,
    PHONES,
    Cut,
    assert_all_answered_rightly,
    assert_rate_was_kept,
    await_requests,
    cut_by,
    cutting,
    known,
    load_on,
    records_of,
    registered,
    statuses_of,
    under_load,
)
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

CLUSTER = "ml-cluster-1"
VICTIM, OTHER = f"{CLUSTER}-a", f"{CLUSTER}-b"
WITHIN = timedelta(seconds=10)
OUT_OF_ROTATION_WITHIN_NS = 1_000_000_000
# Requests that are sent before the death can be noticed count as in flight.
NEWS_NS = 100_000_000
# The use case's timeout: a request to a frozen replica fails after it.
TIMEOUT = timedelta(seconds=2)
SLOW_NS = 500_000_000


@pytest.mark.scenario(takes_s=5)
def test_a_killed_replica_leaves_rotation_within_a_second(scenario: Scenario, lab: Lab, topology: str) -> None:
    """Without retries, requests in flight on the dead replica fail; none that is sent a second later does."""
    in_ns = 0

    def is_out() -> bool:
        # A probe may take long on a busy machine: the last one that still found the replica counts.
        nonlocal in_ns
        looked_ns = lab_time_ns()
        if VICTIM not in registered(lab):
            return True
        in_ns = looked_ns
        return False

    with under_load(lab, load_on(topology, rate=500, contexts=PHONES)) as run:
        with scenario.step(f"Kill {VICTIM}"):
            fault = lab.faults.inject("kill", VICTIM)
            eventually("it is registered no longer", is_out, within=WITHIN)
            scenario.see_fault(fault)
        with scenario.step("Start it, and wait until it is registered"):
            fault.heal()
            eventually("it is registered again", lambda: VICTIM in registered(lab), within=WITHIN)
    with scenario.step("Judge every answer"):
        result = run.result()
    records, cut = records_of(result), cut_by(lab, fault)
    failed = [each for each in records if each.status != "OK"]
    # Killing a container takes a while, so the first failure marks its death.
    died_ns = min((each.done_ns for each in failed), default=cut.from_ns)
    in_flight = [each for each in records if each.sent_ns <= died_ns + NEWS_NS and each.done_ns >= died_ns]
    assert result.misrouted == 0
    assert len(failed) <= len(in_flight), f"{result.summary.by_status}\n{result.folder}"
    assert {each.attempts for each in records} <= {1}, "something was sent twice"
    assert_rate_was_kept(result)
    assert in_ns - cut.until_ns <= OUT_OF_ROTATION_WITHIN_NS, "it was in rotation for longer"
    last_ns = max((each.sent_ns for each in failed), default=died_ns)
    assert last_ns - died_ns <= OUT_OF_ROTATION_WITHIN_NS, result.folder
    scenario.figure("failed", f"{len(failed)} of {len(in_flight)} in flight")
    scenario.figure("sent last of those", f"{max(0, last_ns - died_ns) / 1e6:.0f} ms after it died")


@pytest.mark.scenario(takes_s=8, topologies=("gateway", "mesh", "proxyless"))
def test_a_frozen_replica_leaves_rotation(scenario: Scenario, lab: Lab, topology: str) -> None:
    """Without ejection a frozen replica costs its share of a second's requests, each a whole timeout."""
    with under_load(lab, load_on(topology, rate=200, contexts=PHONES)) as run:
        with scenario.step(f"Freeze {VICTIM}, and wait until it is missed"):
            fault = lab.faults.inject("pause", VICTIM)
            eventually("it is registered no longer", lambda: VICTIM not in registered(lab), within=WITHIN)
            cut = Cut(from_ns=cut_by(lab, fault).from_ns, until_ns=lab_time_ns())
            scenario.see_fault(fault)
        with scenario.step("Wait until what it has is overdue"):
            consistently("it stays out of rotation", lambda: VICTIM not in registered(lab), during=TIMEOUT)
        with scenario.step("Let it go on, and wait until it is registered"), cutting() as resumed:
            fault.heal()
            eventually("it is registered again", lambda: VICTIM in registered(lab), within=WITHIN)
    with scenario.step("Judge every answer"):
        result = run.result()
    records = records_of(result)
    # Slow answers of the other replica are due to the machine.
    slow = [each for each in records if each.done_ns - each.sent_ns >= SLOW_NS and each.replica != OTHER]
    at_risk = [each for each in records if cut.from_ns <= each.done_ns and each.sent_ns <= cut.until_ns]
    assert result.misrouted == 0
    assert slow, f"nobody was slow\n{result.folder}"
    late = [each.sequence for each in slow if cut.until_ns + NOTICED_WITHIN_NS < each.sent_ns < resumed.from_ns]
    # An unanswered request may have been at either replica.
    other = [each for each in records if each.replica == OTHER and each.done_ns - each.sent_ns >= SLOW_NS]
    if late and any(cut.until_ns < each.done_ns and each.sent_ns < resumed.from_ns for each in other):
        raise UnknownError(f"this machine kept the other replica's requests waiting, too\n{result.folder}")
    assert late == [], f"these were sent when the frozen one should have been out of rotation\n{result.folder}"
    slow = [each for each in slow if each.sent_ns < resumed.from_ns]
    assert statuses_of(result) <= {"OK", "DEADLINE_EXCEEDED"}, result.folder
    assert {each.sequence for each in records if each.status != "OK"} <= {each.sequence for each in slow}
    # One of two: with round-robin, little more than half of the requests sent meanwhile waited.
    assert len(slow) <= 0.75 * len(at_risk) + 5, f"{len(slow)} of {len(at_risk)}\n{result.folder}"
    scenario.figure("slow", f"{len(slow)} of {len(at_risk)} sent meanwhile")
    scenario.figure("out of rotation after", f"{(max(each.sent_ns for each in slow) - cut.from_ns) / 1e9:.1f} s")


@pytest.mark.scenario(takes_s=5, topologies=("gateway", "mesh", "proxyless"))
def test_a_cold_replica_gets_no_request_before_warm(scenario: Scenario, small_lab: Lab, topology: str) -> None:
    """A replica that takes a second to load its model is added under load: nobody waits for it, then it serves."""
    present = len([unit for unit in small_lab.status().units if unit.name.startswith(f"{CLUSTER}-")])
    try:
        with under_load(small_lab, load_on(topology, rate=200, contexts=PHONES)) as run:
            with scenario.step("Add a replica, and see it load its model"):
                newcomer = small_lab.units.scale(CLUSTER, present + 1)[-1]
                cold_ns = eventually("it is cold", lambda: _cold_ns(small_lab, newcomer), within=WITHIN)
            with scenario.step("Wait until it is warm"):
                eventually("it is warm", lambda: newcomer in registered(small_lab), within=WITHIN)
                await_requests(small_lab, newcomer)
        with scenario.step("Judge every answer"):
            result = run.result()
        assert_all_answered_rightly(result)
        by_newcomer = [each.done_ns for each in records_of(result) if each.replica == newcomer]
        assert by_newcomer, f"the newcomer got no request\n{result.folder}"
        assert min(by_newcomer) > cold_ns, "it answered while it was cold"
        scenario.figure("first answer after it was seen cold", f"{(min(by_newcomer) - cold_ns) / 1e9:.1f} s")
    finally:
        small_lab.units.scale(CLUSTER, present)


def _cold_ns(lab: Lab, replica: str) -> int:
    """Now, if it is registered and has loaded nothing, Unix nanoseconds; else 0."""
    cold = {each.replica for each in known(lab).replicas if not each.loaded}
    return lab_time_ns() if replica in cold else 0
