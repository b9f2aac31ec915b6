"""Circuit breakers must let as many attempts through as the table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, FaultWindow
from lab.checkers.kinds import breaker
from tests.checkers.attempts import MS, arrival, asked
from tests.checkers.builders import make_evidence, make_table

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history import Record

CAN = Abilities(breaks=True, between=("sidecar",))
TWO = {"breaker": {"requests": 2}}


def judge(records: Sequence[Record], use_case: dict[str, Any] | None = None, **changes: Any) -> Verdict | None:
    """The verdict on requests, each at a model from 1 ms after its sending to 1 ms before its end, unless refused."""
    answered = [each for each in records if each.status == "OK" and each.source == "model"]
    arrivals = [arrival(each, ended_ns=each.done_ns - MS) for each in answered]
    changes = {"abilities": CAN, "arrivals": arrivals, **changes}
    table = make_table({"rows@v1": 100}, **(TWO if use_case is None else use_case))
    return breaker.check(make_evidence(records, table=table, **changes))


def at(number: int, sent_ms: int, took_ms: int = 100, **changes: Any) -> Record:
    """A request of the run, sent ``sent_ms`` after the first."""
    record = asked(number, **changes)
    sent_ns = asked(0).sent_ns + sent_ms * MS
    return replace(record, intended_ns=sent_ns, sent_ns=sent_ns, done_ns=sent_ns + took_ms * MS)


def refused(number: int, sent_ms: int, **changes: Any) -> Record:
    """A request that was refused at once."""
    return at(number, sent_ms, 2, **{"status": "RESOURCE_EXHAUSTED", **changes})


def outcome(verdict: Verdict | None) -> str:
    return verdict.outcome if verdict else "nothing"


def test_more_attempts_in_flight_than_the_bound_are_wrong() -> None:
    verdict = judge([at(0, 0), at(1, 10), at(2, 20)])
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "request #2 (r2) arrived while replicas had 2 attempts at rows.v1; the circuit breaker's bound is 2"
    ]
    assert outcome(judge([at(0, 0), at(1, 10), at(2, 110)])) == "valid"


def test_each_limiter_has_the_bound_and_one_that_was_hit_has_it_anew() -> None:
    three = [at(0, 0), at(1, 10), at(2, 20)]
    assert outcome(judge(three, abilities=replace(CAN, limiters=2))) == "valid"
    hit = FaultWindow("sidecar killed", "homepage-sidecar", 0, 1, role="sidecar")
    assert outcome(judge(three, fault_windows=[hit])) == "valid"
    assert outcome(judge(three, fault_windows=[replace(hit, role="model")])) == "invalid"


@pytest.mark.parametrize("status", ["CANCELLED", "DEADLINE_EXCEEDED", ""])
def test_an_attempt_whose_caller_has_left_counts_as_ended(status: str) -> None:
    three = [at(0, 0), at(1, 10), at(2, 20)]
    arrivals = [arrival(each, ended_ns=each.done_ns, status="OK" if each is not three[0] else status) for each in three]
    assert outcome(judge(three, arrivals=arrivals)) == "valid"


def test_a_refusal_below_the_bound_is_wrong() -> None:
    verdict = judge([at(0, 0), refused(1, 60, message="overflow"), at(2, 200)])
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "request #1 (r1) was refused ('overflow') with 1 attempts in flight at most; the bound is 2"
    ]
    assert outcome(judge([at(0, 0), at(1, 10), refused(2, 60)])) == "valid"
    assert outcome(judge([refused(number, 3 * number) for number in range(5)])) == "invalid"


def test_a_fallback_below_the_bound_is_wrong() -> None:
    fell_back = at(1, 60, source="fallback", version="v2")
    table = {**TWO, "fallback": ["rows@v2"]}
    assert outcome(judge([at(0, 0), fell_back], table)) == "invalid"
    assert outcome(judge([at(0, 0), at(2, 10), fell_back], table)) == "valid"


@pytest.mark.parametrize(
    "use_case",
    [
        {"breaker": {"requests": 2, "pending": 1}},
        {"breaker": {"requests": 2}, "outliers": {}},
        {"breaker": {"requests": 2}, "health": {}},
    ],
)
def test_a_refusal_that_something_else_explains_passes(use_case: dict[str, Any]) -> None:
    assert outcome(judge([at(0, 0), refused(1, 60)], use_case)) == "valid"


def test_a_refusal_beside_a_broken_connection_or_requests_of_others_passes() -> None:
    run = [at(0, 0), refused(1, 60)]
    fault = FaultWindow("a killed", "v1-a", 0, None)
    assert outcome(judge(run, fault_windows=[fault])) == "valid"
    assert outcome(judge(run, fault_windows=[replace(fault, statuses=frozenset({"DEADLINE_EXCEEDED"}))])) == "invalid"
    others = [arrival(run[0], ended_ns=run[0].done_ns, request_id="theirs")]
    assert outcome(judge(run, arrivals=[arrival(run[0], ended_ns=run[0].done_ns), *others])) == "valid"


def test_a_hedge_may_have_been_in_flight_too() -> None:
    hedged = {**TWO, "idempotent": True, "hedge": {"after": "10ms"}}
    assert outcome(judge([at(0, 0), refused(1, 60)], hedged)) == "valid"


def test_nothing_is_said_where_there_is_no_breaker() -> None:
    assert judge([at(0, 0)], {}) is None
    assert judge([at(0, 0)], abilities=Abilities()) is None
    assert outcome(judge([at(0, 0)], arrivals=None)) == "unknown"
