"""*served*: picks, attempts and what the proxy said of them, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, FaultWindow
from lab.checkers.evidence import Registration, Registrations
from lab.plugins.endpoint_picker import checker
from tests.checkers.builders import arrivals_of, make_evidence, make_record, values_of

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history.arrivals import Arrival

A, B = "127.0.0.1:1", "127.0.0.1:2"
REPLICAS = {A: "a-0", B: "a-1"}
RECORDS = [make_record(number) for number in range(4)]
CAN = Abilities(asks=("resolver",), between=("picking-envoy",))
HEADER = "x-request-id x-gateway-destination-endpoint"


def arrival(number: int, listed: str = f"{A},{B}", **changes: Any) -> Arrival:
    [made] = arrivals_of([RECORDS[number]])
    record = RECORDS[number].request_id
    fields: dict[str, Any] = {"headers": HEADER, "values": values_of(record, listed), "replica": "a-0"}
    if not listed:
        fields |= {"headers": "x-request-id", "values": values_of(record)}
    return made._replace(**{**fields, **changes})


def pick(number: int, listed: str = f"{A},{B}", served: str = A) -> list[str]:
    return [RECORDS[number].request_id, "rows.v1", "picked", listed, served]


def judge(
    picks: list[list[str]], arrivals: list[Arrival] | None, *, records: Any = RECORDS, **changes: Any
) -> Verdict | None:
    registered = [Registration("a", each, 0, None) for each in REPLICAS.values()]
    evidence = make_evidence(records, arrivals=arrivals, abilities=CAN, registrations=Registrations(registered))
    gathered = {"served": {"replicas": REPLICAS, "picks": picks}}
    return checker.check(replace(evidence, **{"gathered": gathered, **changes}))


def said(verdict: Verdict | None) -> tuple[str, list[str]]:
    return (verdict.outcome, [each.message for each in verdict.violations]) if verdict else ("nothing", [])


PICKS, ARRIVALS = [pick(number) for number in range(4)], [arrival(number) for number in range(4)]


def test_requests_that_came_to_their_picks_are_valid() -> None:
    assert said(judge(PICKS, ARRIVALS)) == ("valid", [])


@pytest.mark.parametrize(
    ("picked", "arrived", "message"),
    [
        (pick(0, f"{B},{A}"), arrival(0, f"{B},{A}"), "came to a-0, and the picker had picked a-1"),
        (pick(0, B), arrival(0, B), "came to a-0, and the picker had picked a-1"),
        (pick(0, served=B), arrival(0), "came to a-0, and the picker was told that a-1 had served"),
        (pick(0), arrival(0, f"{B},{A}"), "came to a-0 with the header of another pick"),
        (pick(0), arrival(0, ""), "came to a-0 without the header of its pick"),
        (pick(0, ""), arrival(0), "came to a-0 with a picked endpoint, and there was no pick"),
    ],
)
def test_each_planted_fault_is_a_violation(picked: list[str], arrived: Arrival, message: str) -> None:
    assert said(judge([picked, *PICKS[1:]], [arrived, *ARRIVALS[1:]])) == ("invalid", [f"request #0 (r0) {message}"])


def test_a_retry_walks_the_list() -> None:
    at_ns = ARRIVALS[0].arrived_ns
    retried = [arrival(0, replica="a-0", status="UNAVAILABLE"), arrival(0, replica="a-1", arrived_ns=at_ns + 1)]
    records = [make_record(0, replica="a-1"), *RECORDS[1:]]
    verdict = judge([pick(0, served=B), *PICKS[1:]], [*retried, *ARRIVALS[1:]], records=records)
    assert said(verdict) == ("valid", [])
    assert verdict is not None
    assert verdict.summary.startswith("4 picks, 3 served as picked, 1 elsewhere")


def test_a_picked_replica_under_a_marked_fault_may_be_passed_over() -> None:
    arrived = arrival(0, f"{B},{A}")
    fault = FaultWindow("a-1 killed", "a-1", 0, None, kills=True, role="model")
    picks = [pick(0, f"{B},{A}"), *PICKS[1:]]
    assert said(judge(picks, [arrived, *ARRIVALS[1:]], fault_windows=[fault]))[0] == "valid"
    assert said(judge(picks, [arrived, *ARRIVALS[1:]]))[0] == "invalid"


def test_requests_without_a_pick_are_counted_and_too_many_are_no_pass() -> None:
    unpicked = [arrival(0, ""), *ARRIVALS[1:]]
    assert said(judge(PICKS[1:], unpicked)) == ("unknown", [])
    fault = FaultWindow("picker killed", "picker", 0, None, kills=True, role="picker")
    verdict = judge(PICKS[1:], unpicked, fault_windows=[fault])
    assert said(verdict) == ("valid", [])
    assert verdict is not None
    assert verdict.summary.endswith("; 1 requests without a pick")


def test_an_empty_run_and_a_lost_log_are_no_pass() -> None:
    assert said(judge([], [], records=[]))[0] == "unknown"
    assert said(judge(PICKS, ARRIVALS, gathered={}))[0] == "unknown"
    assert said(judge(PICKS, None))[0] == "unknown"


def test_other_topologies_are_not_judged() -> None:
    assert judge(PICKS, ARRIVALS, abilities=Abilities(between=("central-envoy",))) is None
