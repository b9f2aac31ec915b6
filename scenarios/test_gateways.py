"""Dead gateways cost the callers behind them, and no others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.waiting import consistently, eventually
from scenarios.framework.steps import (
    AT_MOST_S,
    assert_all_answered_rightly,
    assert_only_the_cut_off_failed,
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
    from lab.history import Record
    from lab.lab import Lab
    from lab.runs import LoadOptions
    from scenarios.framework.scenario import Scenario

VICTIM = "gateway-1"
BACK_WITHIN = timedelta(seconds=10)
DEAD_FOR = timedelta(seconds=0.5)


def _load(topology: str, caller: str) -> LoadOptions:
    return load_on(topology, rate=200, caller=caller, duration_s=2 * AT_MOST_S)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=4, topologies=("gateway", "gateway-passthrough"))
def test_one_dead_gateway_costs_only_requests_in_flight(scenario: Scenario, lab: Lab, topology: str) -> None:
    """Callers know both gateways: requests in flight through the dead one fail, and the next go to the other."""
    with under_load(lab, _load(topology, "homepage")) as run:
        with scenario.step(f"Kill {VICTIM}"):
            fault = scenario.kill(VICTIM)
        with scenario.step("Start it, and wait until it is connected"):
            fault.heal()
            await_connected(lab, {VICTIM})
    with scenario.step("Judge every answer"):
        result = run.result()
    assert result.misrouted == 0
    assert_only_the_cut_off_failed(result, cut_by(lab, fault))
    scenario.figure("failed", f"{result.summary.failed} of {len(records_of(result))}")


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=7, topologies=("gateway", "mesh"))
def test_dead_gateways_do_not_affect_the_mesh(scenario: Scenario, lab: Lab) -> None:
    """With both gateways dead every request through them fails, and none on the mesh."""
    loads = (_load("mesh", "recommendations"), _load("gateway", "homepage"))
    with under_loads(lab, *loads) as (mesh, run):
        with scenario.step("Kill both gateways"):
            fault = scenario.kill("gateway")
        with scenario.step("Ask for a while"):
            consistently("nobody is answered", lambda: not is_answered(lab, "gateway", "homepage"), during=DEAD_FOR)
        with scenario.step("Start them, and ask until they answer"), cutting() as starting:
            fault.heal()
            eventually("the gateway answers", lambda: is_answered(lab, "gateway", "homepage"), within=BACK_WITHIN)
    with scenario.step("Judge every answer"):
        through_gateway = run.result()
        assert_all_answered_rightly(mesh.result())
    assert through_gateway.misrouted == 0
    cut = cut_by(lab, fault)
    assert statuses_of(through_gateway) == {"OK", "UNAVAILABLE"}, through_gateway.folder
    records = records_of(through_gateway)
    while_dead = [each for each in records if cut.until_ns < each.sent_ns and each.done_ns < starting.from_ns]
    assert {each.status for each in while_dead} == {"UNAVAILABLE"}, through_gateway.folder
    assert all(each.status == "OK" for each in records if each.done_ns < cut.from_ns), through_gateway.folder
    scenario.figure("cut off for", f"{_outage_s(records):.1f} s")


def _outage_s(records: list[Record]) -> float:
    failed = [each.sent_ns for each in records if each.status != "OK"]
    return (max(failed) - min(failed)) / 1e9
