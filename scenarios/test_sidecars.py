"""A sidecar or resolver serves one caller; its death affects no other."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.waiting import consistently, eventually
from scenarios.framework.steps import (
    AT_MOST_S,
    GONE_WITHIN,
    LEASE_MAX_STALE,
    LEASE_TTL,
    PHONES,
    USE_CASE,
    assert_all_answered_rightly,
    await_connected,
    cut_by,
    cutting,
    is_answered,
    load_on,
    records_of,
    statuses_of,
    under_load,
    under_loads,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import LoadOptions
    from scenarios.framework.scenario import Scenario

CONTEXT = {"user_id": "u1", "device": "phone"}
BACK_WITHIN = timedelta(seconds=10)
DEAD_FOR = timedelta(seconds=0.5)


def _load(topology: str, caller: str) -> LoadOptions:
    return load_on(topology, rate=150, caller=caller, duration_s=2 * AT_MOST_S, contexts=PHONES)


@pytest.mark.scenario(takes_s=6, topologies=("mesh",))
def test_a_dead_sidecar_costs_only_its_caller(scenario: Scenario, lab: Lab) -> None:
    """Two callers ask for the same; the sidecar of one is killed, and the other loses no request."""
    sidecar = "homepage-sidecar"
    loads = (_load("mesh", "recommendations"), _load("mesh", "homepage"))
    with under_loads(lab, *loads) as (neighbour, run):
        with scenario.step(f"Kill {sidecar}"):
            fault = scenario.kill(sidecar)
        with scenario.step("Ask for a while"):
            consistently("it is cut off", lambda: not is_answered(lab, "mesh", "homepage"), during=DEAD_FOR)
        with scenario.step("Start it, and ask until it serves"), cutting() as starting:
            fault.heal()
            eventually("it serves", lambda: is_answered(lab, "mesh", "homepage"), within=BACK_WITHIN)
    with scenario.step("Judge every answer"):
        own = run.result()
        assert_all_answered_rightly(neighbour.result())
    assert own.misrouted == 0
    assert statuses_of(own) == {"OK", "UNAVAILABLE"}, own.folder
    cut = cut_by(lab, fault)
    while_dead = [each for each in records_of(own) if cut.until_ns < each.sent_ns and each.done_ns < starting.from_ns]
    assert {each.status for each in while_dead} == {"UNAVAILABLE"}, own.folder
    scenario.figure("failed", f"{own.summary.failed} of {len(records_of(own))}; of the neighbour's 0")


@pytest.mark.scenario(takes_s=5, topologies=("mesh",))
def test_leases_then_defaults_bridge_a_lost_resolver(scenario: Scenario, small_lab: Lab) -> None:
    """No call fails: leases carry on while they may, then comes the caller's own answer, then the model again."""
    resolver = "homepage-resolver"
    sources: list[tuple[float, str]] = []

    def ask() -> str:
        asked = time.monotonic()
        answer = small_lab.call(USE_CASE, topology="mesh", caller="homepage", context=CONTEXT)
        sources.append((asked, answer.source))
        return answer.source

    assert ask() == "model"
    with scenario.step("Kill the resolver"):
        before = time.monotonic()
        fault = scenario.kill(resolver, lab=small_lab)
        after = time.monotonic()
    with scenario.step("Ask until the caller answers by itself"):
        eventually("leases have run out", ask, within=LEASE_MAX_STALE + BACK_WITHIN, until=lambda by: by == "default")
        consistently("it answers by itself", ask, during=LEASE_MAX_STALE / 2, until=lambda by: by == "default")
    with scenario.step("Start the resolver, and ask until the model answers"):
        started = time.monotonic()
        fault.heal()
        eventually("the model answers again", ask, within=BACK_WITHIN, until=lambda by: by == "model")
        await_connected(small_lab, {resolver})
    # A lease that was just about to be renewed is as old as it may get before it is stale.
    youngest, oldest = (
        after + LEASE_MAX_STALE.total_seconds(),
        before + (LEASE_MAX_STALE - LEASE_TTL).total_seconds(),
    )
    assert {source for asked, source in sources if asked < oldest} == {"model"}
    assert {source for asked, source in sources if youngest < asked < started} == {"default"}
    first = next(asked for asked, source in sources if source == "default")
    scenario.figure("leases carried on for", f"{first - before:.1f} s of {LEASE_MAX_STALE.total_seconds():g}")


@pytest.mark.scenario(takes_s=14, topologies=("gateway", "mesh"), runtimes=("compose",))
def test_a_partitioned_caller_fails_alone(scenario: Scenario, lab: Lab, topology: str) -> None:
    """One caller's pod loses its network: it gets no answer, and every other caller gets all of its own."""
    with under_load(lab, _load(topology, "recommendations")) as others:
        with scenario.step("Cut homepage off"):
            fault = scenario.inject("partition", "homepage")
            scenario.see("it reaches nobody", lambda: not is_answered(lab, topology, "homepage"), within=GONE_WITHIN)
        with scenario.step("Connect it again, and ask until it is answered"):
            began = time.monotonic()
            fault.heal()
            eventually("it is answered", lambda: is_answered(lab, topology, "homepage"), within=BACK_WITHIN)
            scenario.figure("answered again after", f"{time.monotonic() - began:.1f} s")
        await_connected(lab, {"homepage-resolver"})
    with scenario.step("Judge every answer of the others"):
        assert_all_answered_rightly(others.result())
