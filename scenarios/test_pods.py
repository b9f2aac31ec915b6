"""A pod's members die alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.errors import CallError
from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.steps import is_gone, under_load

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.scenario import Scenario

WITHIN = timedelta(seconds=10)


@pytest.mark.scenario(takes_s=25, topologies=("mesh",))
@pytest.mark.parametrize("member", ["homepage", "homepage-sidecar", "homepage-resolver"])
def test_each_of_a_pod_is_killed_and_comes_back_while_the_others_go_on(
    scenario: Scenario, lab: Lab, member: str
) -> None:
    """Caller, sidecar and resolver share a pod and die alone; only the sidecar's death fails requests."""
    with under_load(
        lab, LoadOptions(topology="mesh", caller="homepage", rate=200, duration_s=6, contexts={"device": ("phone",)})
    ) as run:
        before = _identities(lab)
        with scenario.step(f"Kill {member}"):
            lab.kill(member)
            scenario.see(f"{member} is gone", lambda: is_gone(lab, member), within=WITHIN)
        with scenario.step(f"Start {member}, and wait until the pod serves"):
            lab.start(member)
            eventually("the pod serves again", lambda: _serves(lab), within=WITHIN)
        after = _identities(lab)
    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    # The driver stands in the caller's place: it does without the caller, and, thanks to leases, without the resolver.
    if member == "homepage-sidecar":
        assert 0 < result.summary.failed < result.summary.planned / 2, result.summary.by_status
        assert result.summary.by_status.keys() <= {"OK", "UNAVAILABLE"}
    else:
        assert result.summary.failed == 0, result.summary.by_status
    assert {name for name in before if before[name] != after[name]} <= {member}
    assert all(unit.state == "running" for unit in lab.status().units)


def _serves(lab: Lab) -> bool:
    try:
        answer = lab.call(
            "ContinueWatchingRanking", topology="mesh", caller="homepage", context={"user_id": "u", "device": "phone"}
        )
    except CallError:
        return False
    return answer.version == "v1"


def _identities(lab: Lab) -> dict[str, tuple[int, str]]:
    return {unit.name: (unit.pid, unit.container) for unit in lab.status().units}
