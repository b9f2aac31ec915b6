"""Containers of a pod die alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.errors import CallError
from lab.waiting import consistently, eventually
from scenarios.framework.steps import FOUND_AGAIN_WITHIN, PHONES, cut_by, load_on, records_of, statuses_of, under_load

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

WITHIN = timedelta(seconds=10)


@pytest.mark.scenario(takes_s=12, topologies=("mesh",))
@pytest.mark.parametrize("member", ["homepage", "homepage-sidecar", "homepage-resolver"])
def test_each_member_of_a_pod_dies_alone(scenario: Scenario, lab: Lab, member: str) -> None:
    """Caller, sidecar and resolver share a pod and die alone; only the sidecar's death fails requests."""
    with under_load(lab, load_on("mesh", rate=200, use_cases=(), contexts=PHONES)) as run:
        before = _identities(lab)
        with scenario.step(f"Kill {member}"):
            fault = scenario.kill(member)
        with scenario.step(f"Start {member}, and wait until the pod serves"):
            fault.heal()
            eventually("the pod serves again", lambda: _serves(lab), within=WITHIN)
            consistently("the pod serves", lambda: _serves(lab), during=FOUND_AGAIN_WITHIN)
        found_ns = lab_time_ns()
        after = _identities(lab)
    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    # The driver stands in the caller's place: it does without the caller, and, thanks to leases, without the resolver.
    if member == "homepage-sidecar":
        records, cut = records_of(result), cut_by(lab, fault)
        assert statuses_of(result) == {"OK", "UNAVAILABLE"}, result.folder
        assert {each.status for each in records if each.done_ns < cut.from_ns} == {"OK"}, result.folder
        assert {each.status for each in records if each.sent_ns > found_ns} == {"OK"}, result.folder
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
