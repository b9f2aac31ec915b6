"""Replicas that fail requests: retries are bounded, and failing replicas are ejected."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.waiting import eventually
from scenarios.framework.steps import (
    AT_MOST_S,
    USE_CASE,
    arrived,
    assert_all_answered_rightly,
    await_requests,
    load_on,
    records_of,
    table_with,
    under_load,
)
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import LoadOptions
    from scenarios.framework.scenario import Scenario

CLUSTER = "ml-cluster-1"
VICTIM = f"{CLUSTER}-a"

# Twenty requests under way: a budget of a fifth lets four of them be another's second.
STORM_RPS, SERVICE_MS = 100.0, 200.0
ATTEMPTS, BUDGET, AMPLIFIED = 3, 20, 1.2
RETRIES = {"attempts": ATTEMPTS, "on": ["internal"]}

GRAY_RPS = 150.0
EJECT = timedelta(seconds=3)
ASKED_FOR_S = 2.0
WITHIN = timedelta(seconds=15)
# At half of 150 requests a second, such a pause is no accident: e⁻³⁷.
NOTHING_FOR = timedelta(seconds=0.5)


def _load(topology: str, caller: str, rate: float, duration_s: float) -> LoadOptions:
    use_case = {"homepage": USE_CASE, "search": "SearchRanking"}[caller]
    return load_on(topology, rate, caller=caller, use_cases=(use_case,), duration_s=duration_s)


@pytest.mark.scenario(takes_s=14, topologies=("gateway", "mesh"))
def test_a_retry_budget_prevents_a_retry_storm(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A model fails every request: without a budget it gets three times the requests, with one 1.2 times at most."""
    tables = {
        "without a budget": {**RETRIES, "at_least": 100},
        "with a budget of a fifth": {**RETRIES, "budget": BUDGET},
    }
    amplified = {}
    with under_load(lab, _load(topology, "search", 50, 3 * AT_MOST_S)) as others:
        for budget, retries in tables.items():
            with scenario.step(f"Publish retries {budget}"):
                lab.routes.publish(table_with(routes, tmp_path, rules=[], retries=retries))
            with (
                scenario.step(f"Let every replica of {CLUSTER} take its time and fail, and ask"),
                scenario.fault("error", CLUSTER, rate=1, share=1),
                scenario.fault("slow", CLUSTER, ms=SERVICE_MS, share=1),
            ):
                before = arrived(lab, CLUSTER)
                result = lab.load(_load(topology, "homepage", STORM_RPS, 3))
                # Before it begins, the driver asks once by itself.
                amplified[budget] = (arrived(lab, CLUSTER) - before) / (result.summary.planned + 1)
            scenario.figure(budget, f"{amplified[budget]:.2f} times the requests at the model")
            assert result.summary.ok == 0, result.folder
    with scenario.step("Judge every answer of the others"):
        assert_all_answered_rightly(others.result())
    without, with_budget = amplified.values()
    if without < ATTEMPTS - 1:
        raise UnknownError(f"without a budget there was no storm: {amplified}")
    assert 1 < with_budget <= AMPLIFIED, amplified


@pytest.mark.scenario(takes_s=10, topologies=("gateway", "mesh", "proxyless"))
def test_a_gray_replica_is_ejected_and_readmitted(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """One of two replicas fails every request but passes health checks: half of all requests fail, then none."""
    with under_load(lab, _load(topology, "homepage", GRAY_RPS, 2 * AT_MOST_S)) as run:
        with scenario.step("Publish a table without outliers"):
            lab.routes.publish(table_with(routes, tmp_path, rules=[]))
        with scenario.fault("error", VICTIM, rate=1):
            with scenario.step(f"Let {VICTIM} fail, and ask for a while"):
                gray_ns = lab_time_ns()
                wait([run], timeout=ASKED_FOR_S)
                settled_ns = lab_time_ns()
            with scenario.step("Publish outliers, and wait until it is asked no more"):
                outliers = {"errors": 5, "eject": f"{EJECT.total_seconds():g}s"}
                lab.routes.publish(table_with(routes, tmp_path, rules=[], outliers=outliers))
                left_ns = eventually("it is ejected", _left_alone_ns(lab), within=WITHIN)
                out_ns = lab_time_ns()
        with scenario.step("Let it be well, and wait until it is asked again"):
            well = time.monotonic()
            await_requests(lab, VICTIM)
            scenario.figure("asked again", f"{time.monotonic() - well:.1f} s after it was well")
    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    records = records_of(result)
    gray = [each.status for each in records if gray_ns < each.sent_ns and each.done_ns < settled_ns]
    share = gray.count("INTERNAL") / len(gray)
    out = [each.status for each in records if left_ns < each.sent_ns and each.done_ns < out_ns]
    scenario.figure("failed before", f"{share:.0%} of {len(gray)}")
    scenario.figure("out of rotation", f"{(left_ns - settled_ns) / 1e9:.1f} s after outliers were published")
    # Replicas are chosen round-robin or at random: five standard deviations of the latter.
    assert abs(share - 1 / 2) <= 5 * (1 / 2) / len(gray) ** 0.5, result.folder
    assert out.count("OK") == len(out) > 0, result.folder
    assert VICTIM in {each.replica for each in records if each.sent_ns > out_ns}, result.folder


def _left_alone_ns(lab: Lab) -> Callable[[], int]:
    """Unix nanoseconds of the victim's last request; 0 while that is not long enough ago."""
    known, since_ns = -1, 0

    def look() -> int:
        nonlocal known, since_ns
        now = arrived(lab, VICTIM)
        if now != known:
            known, since_ns = now, lab_time_ns()
        return since_ns if lab_time_ns() - since_ns >= NOTHING_FOR.total_seconds() * 1e9 else 0

    return look
