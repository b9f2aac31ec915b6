"""Addresses are reused at once: a remembered one may belong to another version's model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.clock import lab_time_ns
from lab.waiting import eventually
from scenarios.framework.steps import (
    PHONES,
    assert_only_the_cut_off_failed,
    await_requests,
    cutting,
    load_on,
    records_of,
    registered,
    under_load,
)
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.runs import RunResult
    from scenarios.framework.scenario import Scenario

RATE_RPS = 300.0
VICTIM, ITS_NEIGHBOUR, ITS_CLUSTER, OTHER_CLUSTER = "ml-cluster-1-a", "ml-cluster-1-b", "ml-cluster-1", "ml-cluster-2"
WITHIN = timedelta(seconds=10)
# Televisions in the US are ranked by v2 on the other cluster.
PHONES_AND_TVS = {"device": ("phone", "tv"), "country": ("US",)}


@pytest.fixture
def replaced(lab: Lab) -> Iterator[list[str]]:
    """The replica at the victim's address; the victim gets the address back in the end."""
    there: list[str] = []
    yield there
    for name in there:
        lab.units.replace(name, ITS_CLUSTER)
        eventually("it is registered again", lambda: VICTIM in registered(lab), within=WITHIN)


@pytest.mark.scenario(takes_s=4)
def test_a_reused_address_gets_no_stale_call(scenario: Scenario, lab: Lab, topology: str, replaced: list[str]) -> None:
    """A replica's address goes to one of another version; no request for the first version reaches the second."""
    contexts = PHONES if topology == "direct" else PHONES_AND_TVS
    with under_load(lab, load_on(topology, RATE_RPS, contexts=contexts)) as run:
        with scenario.step(f"Put a replica of {OTHER_CLUSTER} where {VICTIM} was"), cutting() as cut:
            newcomer = lab.units.replace(VICTIM, OTHER_CLUSTER)
        replaced.append(newcomer)
        with scenario.step("Wait until it serves"):
            eventually("the newcomer serves", lambda: newcomer in registered(lab), within=WITHIN)
            await_requests(lab, newcomer)
    with scenario.step("Judge every answer"):
        result = run.result()
    by_newcomer = _versions_by(result, newcomer)
    assert by_newcomer.keys() == {"v2"}, by_newcomer
    assert result.misrouted == 0
    # A model refuses a body that names another version, so a stale call would show here.
    assert "FAILED_PRECONDITION" not in result.summary.by_status
    assert_only_the_cut_off_failed(result, cut)


@pytest.mark.scenario(takes_s=4, topologies=("direct",))
def test_a_hard_coded_address_gets_no_wrong_answer(scenario: Scenario, lab: Lab, replaced: list[str]) -> None:
    """Callers with hard-coded addresses still call them; another cluster's certificate or the model refuses."""
    secured = bool(lab.endpoints().identity)
    with under_load(lab, load_on("direct", RATE_RPS, contexts=PHONES)) as run:
        with scenario.step(f"Put a replica of {OTHER_CLUSTER} where {VICTIM} was"):
            newcomer = lab.units.replace(VICTIM, OTHER_CLUSTER)
        replaced.append(newcomer)
        with scenario.step("Wait until it serves"):
            eventually("the newcomer serves", lambda: newcomer in registered(lab), within=WITHIN)
            serves_ns = lab_time_ns()
            await_requests(lab, ITS_NEIGHBOUR if secured else newcomer)
    with scenario.step("Count who was refused"):
        result = run.result()
    assert _versions_by(result, newcomer) == {}
    asked = [each for each in records_of(result) if each.sent_ns > serves_ns]
    if not asked:
        raise UnknownError("nobody asked once it served")
    refused = "FAILED_PRECONDITION" in {each.status for each in asked}
    assert refused != secured, (
        "who stands there now, nobody noticed" if not secured else "it was sent what was not its own"
    )
    if secured:
        assert {each.replica for each in asked if each.status == "OK"} == {ITS_NEIGHBOUR}


def _versions_by(result: RunResult, replica: str) -> Counter[str]:
    return Counter(each.version for each in records_of(result) if each.replica == replica)
