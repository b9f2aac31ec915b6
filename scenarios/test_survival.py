"""What may die without anybody noticing, and how soon the dead are left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.steps import (
    GONE_WITHIN,
    assert_all_answered_rightly,
    assert_only_the_cut_off_failed,
    await_connected,
    connected,
    cutting,
    is_gone,
    registered,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.scenario import Scenario

RATE_RPS = 200.0
DURATION_S = 6.0
WITHIN = timedelta(seconds=10)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=8)
def test_the_control_plane_is_killed_and_comes_back_and_nobody_notices(
    scenario: Scenario, lab: Lab, topology: str
) -> None:
    """The control plane is in nobody's path: killed and started again under load, it costs no request."""
    load = LoadOptions(topology=topology, caller="homepage", rate=RATE_RPS, duration_s=DURATION_S)
    with under_load(lab, load) as run:
        before = connected(lab)
        with scenario.step("Kill the control plane"):
            lab.kill("control-plane")
            scenario.see("it is gone", lambda: is_gone(lab, "control-plane"), within=GONE_WITHIN)
        with scenario.step("Start it, and wait until all nodes are connected"):
            lab.start("control-plane")
            await_connected(lab, before)
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=8)
def test_a_killed_replica_fails_at_most_what_was_in_flight_and_is_used_again_when_it_is_back(
    scenario: Scenario, lab: Lab, topology: str
) -> None:
    """One of two replicas dies under load; what fails was under way with it, and what is sent next goes elsewhere."""
    victim = "ml-cluster-1-a"
    with under_load(
        lab,
        LoadOptions(
            topology=topology,
            caller="homepage",
            use_cases=("ContinueWatchingRanking",),
            contexts={"device": ("phone",)},
            rate=RATE_RPS,
            duration_s=DURATION_S,
        ),
    ) as run:
        with scenario.step(f"Kill {victim}"), cutting() as cut:
            lab.kill(victim)
        scenario.see("it is registered no longer", lambda: victim not in registered(lab), within=WITHIN)
        with scenario.step("Start it, and wait until it is registered"):
            lab.start(victim)
            eventually("it is registered again", lambda: victim in registered(lab), within=WITHIN)

    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    assert_only_the_cut_off_failed(result, cut)
    assert result.summary.ok + result.summary.failed == result.summary.planned


@pytest.mark.scenario(takes_s=8, topologies=("mesh",))
def test_a_resolver_is_killed_and_comes_back_and_leases_carry_its_caller_over(scenario: Scenario, lab: Lab) -> None:
    """A caller whose resolver is dead goes on by the leases that it holds."""
    resolver = "homepage-resolver"
    # Few contexts: what was never asked for before has no lease.
    contexts = {"device": ("phone",)}
    load = LoadOptions(topology="mesh", caller="homepage", rate=RATE_RPS, duration_s=DURATION_S, contexts=contexts)
    with under_load(lab, load) as run:
        with scenario.step("Kill the resolver"):
            lab.kill(resolver)
            scenario.see("it is gone", lambda: is_gone(lab, resolver), within=GONE_WITHIN)
        with scenario.step("Start it, and wait until it is connected"):
            lab.start(resolver)
            await_connected(lab, {resolver})
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())
