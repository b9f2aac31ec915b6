"""Units whose death costs no request, or only those in flight."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.waiting import eventually
from scenarios.framework.steps import (
    NOTICED_WITHIN_NS,
    PHONES,
    arrived,
    assert_all_answered_rightly,
    assert_only_the_cut_off_failed,
    await_connected,
    await_requests,
    connected,
    cut_by,
    load_on,
    records_of,
    registered,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

RATE_RPS = 200.0
WITHIN = timedelta(seconds=10)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=5)
def test_nobody_notices_a_killed_control_plane(scenario: Scenario, lab: Lab, topology: str) -> None:
    """The control plane is on no request's path: killed and started again under load, it costs no request."""
    with under_load(lab, load_on(topology, RATE_RPS, use_cases=())) as run:
        # A proxyless driver is a node, too, and leaves with its run.
        before = connected(lab) & {unit.name for unit in lab.status().units}
        with scenario.step("Kill the control plane"):
            fault = scenario.inject("control-plane-loss", how="kill", seconds=0)
        with scenario.step("Start it, and wait until all nodes are connected"):
            fault.heal()
            await_connected(lab, before)
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=4)
def test_a_killed_replica_costs_only_requests_in_flight(scenario: Scenario, lab: Lab, topology: str) -> None:
    """One of two replicas dies under load; only requests in flight on it fail, and the next go elsewhere."""
    victim = "ml-cluster-1-a"
    with under_load(lab, load_on(topology, RATE_RPS, contexts=PHONES)) as run:
        with scenario.step(f"Kill {victim}"):
            fault = scenario.kill(victim)
        with scenario.step("Start it, and wait until it is asked"):
            fault.heal()
            again_ns = lab_time_ns()
            await_requests(lab, victim)
            eventually("it is registered again", lambda: victim in registered(lab), within=WITHIN)

    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    assert_only_the_cut_off_failed(result, cut_by(lab, fault))
    assert result.summary.missing == 0
    assert victim in {each.replica for each in records_of(result) if each.sent_ns > again_ns}, "it was not used again"


@pytest.mark.scenario(takes_s=7, topologies=("gateway", "gateway-header", "mesh", "proxyless"))
def test_a_dead_replica_is_avoided_without_control_plane(scenario: Scenario, lab: Lab, topology: str) -> None:
    """Nobody tells Envoys and gateways that a replica died; a request that cannot connect to it goes to another one."""
    nodes = connected(lab) & {unit.name for unit in lab.status().units}
    with under_load(lab, load_on(topology, RATE_RPS, contexts=PHONES)) as run:
        with scenario.step("Kill the control plane"):
            loss = scenario.inject("control-plane-loss", how="kill", seconds=0)
        with scenario.step("Kill one of two replicas, and send on"):
            fault = scenario.kill("ml-cluster-1-a")
            before = arrived(lab, "ml-cluster-1-b")
            eventually(
                "the other takes over", lambda: arrived(lab, "ml-cluster-1-b") - before > RATE_RPS, within=WITHIN
            )
        with scenario.step("Start both"):
            dead = cut_by(lab, fault)
            again_ns = lab_time_ns()
            loss.heal()
            await_connected(lab, nodes)
            fault.heal()
    records = [each for each in records_of(run.result()) if each.sent_ns < again_ns]
    noticed_ns = dead.until_ns + NOTICED_WITHIN_NS
    assert run.result().misrouted == 0
    late = [each for each in records if each.sent_ns > noticed_ns]
    assert late, "nothing was sent without the replica"
    assert [(each.sequence, each.message) for each in late if each.status != "OK"] == []


@pytest.mark.scenario(takes_s=4, topologies=("mesh",))
def test_leases_bridge_a_killed_resolver(scenario: Scenario, lab: Lab) -> None:
    """A caller whose resolver is dead continues on the leases that it holds."""
    resolver = "homepage-resolver"
    # Few contexts: what was never asked for before has no lease.
    with under_load(lab, load_on("mesh", RATE_RPS, use_cases=(), contexts=PHONES)) as run:
        with scenario.step("Kill the resolver"):
            fault = scenario.kill(resolver)
        with scenario.step("Start it, and wait until it is connected"):
            fault.heal()
            await_connected(lab, {resolver})
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())
