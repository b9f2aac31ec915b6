"""What may die without anybody noticing, and how soon the dead are left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.steps import (
    assert_all_answered_rightly,
    assert_only_the_cut_off_failed,
    await_connected,
    connected,
    cutting,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab

RATE_RPS = 200.0


def test_the_control_plane_is_killed_and_comes_back_and_nobody_notices(lab: Lab, topology: str) -> None:
    with under_load(lab, LoadOptions(topology=topology, caller="homepage", rate=RATE_RPS, duration_s=8)) as run:
        before = connected(lab)
        lab.kill("control-plane")
        lab.start("control-plane")
        await_connected(lab, before)

    assert_all_answered_rightly(run.result())


def test_a_killed_replica_fails_at_most_what_was_in_flight_and_is_used_again_when_it_is_back(
    lab: Lab, topology: str
) -> None:
    victim = "ml-cluster-1-a"
    with under_load(
        lab,
        LoadOptions(
            topology=topology,
            caller="homepage",
            use_cases=("ContinueWatchingRanking",),
            contexts={"device": ("phone",)},
            rate=RATE_RPS,
            duration_s=8,
        ),
    ) as run:
        with cutting() as cut:
            lab.kill(victim)
        eventually(
            "it is registered no longer",
            lambda: victim in _replicas(lab),
            within=timedelta(seconds=10),
            until=lambda there: not there,
        )
        lab.start(victim)
        eventually("it is registered again", lambda: victim in _replicas(lab), within=timedelta(seconds=10))

    result = run.result()
    assert result.misrouted == 0
    assert_only_the_cut_off_failed(result, cut)
    assert result.summary.ok + result.summary.failed == result.summary.planned


def _replicas(lab: Lab) -> set[str]:
    known = lab.status().control_plane
    return {replica.replica for replica in known.replicas if replica.loaded} if known else set()


def test_a_resolver_is_killed_and_comes_back_and_leases_carry_its_caller_over(lab: Lab) -> None:
    resolver = "homepage-resolver"
    with under_load(
        lab,
        # Few contexts: what was never asked for before has no lease.
        LoadOptions(topology="mesh", caller="homepage", rate=RATE_RPS, duration_s=8, contexts={"device": ("phone",)}),
    ) as run:
        lab.kill(resolver)
        lab.start(resolver)
        await_connected(lab, {resolver})

    assert_all_answered_rightly(run.result())
