"""Every unit can be restarted under load, one after the other, at a known cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.roles import CALLER
from lab.topologies import TOPOLOGIES
from lab.waiting import consistently, eventually
from scenarios.framework.steps import (
    FOUND_AGAIN_WITHIN,
    PHONES,
    connected,
    cut_by,
    is_answered,
    load_on,
    records_of,
    registered,
    under_loads,
)

if TYPE_CHECKING:
    from lab.history import Record
    from lab.lab import Lab
    from lab.ops.inspect import UnitStatus
    from lab.runs import RunResult
    from scenarios.framework.scenario import Scenario

PATHS = ("gateway", "mesh", "proxyless")
RATE_RPS = 60.0
# Enough for all units on a slow machine: minutes in containers.
AT_MOST_S = 240.0
BACK_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True)
class Restart:
    """A unit's restart: when it was killed and when it was back, Unix nanoseconds."""

    unit: str
    role: str
    from_ns: int
    until_ns: int


@pytest.mark.timeout(300)
@pytest.mark.scenario(takes_s=45, topologies=("gateway", "mesh", "proxyless"))
def test_restarting_each_unit_costs_only_requests_in_flight(scenario: Scenario, lab: Lab) -> None:
    """Each unit is killed and started again; only requests in flight on it fail, and they are counted."""
    restarts: list[Restart] = []
    # Few contexts: a context that was not seen before has no lease while the resolver is away.
    load = {"use_cases": (), "duration_s": AT_MOST_S, "contexts": PHONES}
    with under_loads(lab, *(load_on(topology, RATE_RPS, **load) for topology in PATHS)) as runs:
        for unit in lab.status().units:
            with scenario.step(f"Restart {unit.name}"):
                restarts.append(_restarted(scenario, lab, unit))
    with scenario.step("Judge every answer"):
        results = [run.result() for run in runs]
        cost = Counter(blame for result in results for blame in _blamed(result, restarts))
    assert [result.folder for result in results if result.misrouted] == []
    sent = sum(result.summary.ok + result.summary.failed for result in results)
    scenario.figure("failed", f"{cost.total()} of {sent}: {', '.join(f'{n} {who}' for who, n in cost.most_common())}")
    # A replica or a gateway costs its requests in flight; a sidecar all that its caller sends until it is back.
    by_sidecar = cost["homepage-sidecar"]
    assert cost.total() - by_sidecar <= len(restarts), cost
    away_s = next((each.until_ns - each.from_ns) / 1e9 for each in restarts if each.unit == "homepage-sidecar")
    assert by_sidecar <= 1.5 * RATE_RPS * (away_s + 1), cost


def _restarted(scenario: Scenario, lab: Lab, unit: UnitStatus) -> Restart:
    there = connected(lab)
    fault = scenario.kill(unit.name)
    fault.heal()
    nodes = there & {each.name for each in lab.status().units}
    eventually(
        f"{unit.name} is back", lambda: _is_back(lab, unit, nodes), within=BACK_WITHIN, until=lambda is_back: is_back
    )
    if unit.role == "gateway":
        # If the other restarted sooner, callers would have no gateway: they do not know yet that this one is back.
        consistently("the other carries on", lambda: is_answered(lab, "gateway", "homepage"), during=FOUND_AGAIN_WITHIN)
    return Restart(unit.name, unit.role, cut_by(lab, fault).from_ns, lab_time_ns())


def _is_back(lab: Lab, unit: UnitStatus, nodes: set[str]) -> bool:
    if not nodes - {unit.name} <= connected(lab):
        return False
    if unit.role == "model":
        return unit.name in registered(lab)
    if unit.role in {"resolver", "gateway"}:
        return unit.name in connected(lab)
    caller = unit.name.removesuffix("-sidecar")
    if caller == "homepage":
        return is_answered(lab, "mesh", caller)
    return True


def _blamed(result: RunResult, restarts: list[Restart]) -> Iterator[str]:
    """The unit that each failed request was lost with."""
    for record in records_of(result):
        if record.status != "OK":
            unit = next((each.unit for each in restarts if _may_have_cost(each, record)), None)
            assert unit, f"{record.sequence} failed ({record.status}) for no reason\n{result.folder}"
            yield unit


def _may_have_cost(restart: Restart, record: Record) -> bool:
    # The driver stands in the caller's place. Roles that decide cost nothing, thanks to leases.
    if restart.role == CALLER or restart.role not in TOPOLOGIES[record.topology].path:
        return False
    if restart.role == "sidecar" and restart.unit != f"{record.caller}-sidecar":
        return False
    # The caller's client has reconnected; the driver's may take up to as long.
    found_ns = restart.until_ns + round(FOUND_AGAIN_WITHIN.total_seconds() * 1e9)
    return record.sent_ns <= found_ns and record.done_ns >= restart.from_ns
