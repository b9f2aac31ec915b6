"""Attempts that models received, compared with those reported and those that the table allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, ArrivalGap, FaultWindow, Outcome, RevisionInForce
from lab.history.arrivals import Arrival
from tests.checkers.attempts import CAN, MS, RETRIES, arrival, asked, judge
from tests.checkers.builders import START_NS, make_record, make_table

if TYPE_CHECKING:
    from lab.history import Record

FALLBACKS = ["rows@v2", "rows@v4"]


def attempts(record: Record, *seen: tuple[str, str], every_ms: float = 10) -> list[Arrival]:
    """One attempt after the other: version and status of each."""
    return [
        arrival(record, 1 + number * every_ms, routing_key=f"rows.{version}", replica=f"{version}-a", status=status)
        for number, (version, status) in enumerate(seen)
    ]


def objection(record: Record, arrivals: Sequence[Arrival], use_case: Mapping[str, Any] | None = None) -> str:
    """The only objection to one request; empty if there is none."""
    verdict = judge([record], arrivals, use_case)
    assert len(verdict.violations) <= 1
    return verdict.violations[0].message if verdict.violations else ""


def test_one_attempt_each_is_valid_and_without_arrivals_nothing_is_shown() -> None:
    records = [asked(number) for number in range(3)]

    verdict = judge(records, [arrival(each) for each in records])
    assert (verdict.outcome, verdict.summary) == (Outcome.VALID, "models received 3 attempts of 3 requests")
    assert judge(records, None).outcome == Outcome.UNKNOWN
    assert judge([], []).outcome == Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replica": "v1-b"}, "received no such request"),
        ({"status": "INTERNAL"}, "ended it with INTERNAL"),
        ({"is_copy": True}, "received no such request"),
    ],
)
def test_an_answer_needs_an_arrival_at_the_replica_that_it_names(changes: dict[str, Any], message: str) -> None:
    record = asked()

    assert message in objection(record, [arrival(record, **changes)])


def test_more_arrivals_than_reported_attempts_are_wrong_and_fewer_need_a_reason() -> None:
    record = asked(attempts=1)
    twice = attempts(record, ("v1", "INTERNAL"), ("v1", "OK"))
    assert "2 attempts reached models, 1 are reported" in objection(record, twice, {"retries": RETRIES})

    record = replace(record, attempts=2)
    once = [arrival(record)]
    assert "2 attempts are reported, 1 reached models" in objection(record, once)
    killed = FaultWindow("v1-b killed", "v1-b", START_NS, None, kills=True)
    assert judge([record], once, fault_windows=[killed]).outcome == Outcome.VALID
    two = [RevisionInForce(number, make_table({"rows@v1": 100}), from_ns=0) for number in (1, 2)]
    assert judge([record], once, revisions=two).outcome == Outcome.VALID
    assert objection(record, once, {"breaker": {"requests": 1}}) == ""
    limited = {**make_table({"rows@v1": 100}), "tenants": {"default": {"rate": 1}}}
    at_limiter = [RevisionInForce(1, limited, from_ns=0)]
    assert judge([record], once, revisions=at_limiter).outcome == Outcome.INVALID
    limits = replace(CAN, limits_rates=True)
    assert judge([record], once, revisions=at_limiter, abilities=limits).outcome == Outcome.VALID
    assert objection(record, once, {"hedge": {"after": "400ms"}, "idempotent": True}) == ""
    assert "reported" in objection(record, once, {"hedge": {"after": "600ms"}, "idempotent": True})
    assert judge([record], twice, {"retries": RETRIES}, abilities=Abilities()).outcome == Outcome.VALID


@pytest.mark.parametrize(
    ("use_case", "seen", "message"),
    [
        ({"retries": RETRIES}, [("v1", "INTERNAL"), ("v1", "OK")], ""),
        (
            {"retries": RETRIES},
            [("v1", "UNAVAILABLE"), ("v1", "OK")],
            "a retry after UNAVAILABLE; the table retries on",
        ),
        ({"retries": {"on": ["unavailable"]}}, [("v1", "INTERNAL"), ("v1", "OK")], "a retry after INTERNAL"),
        ({}, [("v1", "INTERNAL"), ("v1", "OK")], "attempt 2 at it; the table allows 1"),
        ({"retries": RETRIES}, [*[("v1", "INTERNAL")] * 3, ("v1", "OK")], "attempt 4 at it; the table allows 3"),
        ({}, [("v1", "FAILED_PRECONDITION"), ("v1", "OK")], ""),
        ({}, [*[("v1", "FAILED_PRECONDITION")] * 2, ("v1", "OK")], "a retry after FAILED_PRECONDITION"),
        ({}, [("v1", "OK"), ("v1", "OK")], "attempt 2 at it"),
        ({}, [("v3", "OK")], "revision 1 has rows.v1 for it"),
    ],
)
def test_a_further_attempt_at_a_version_needs_a_status_that_the_policy_retries(
    use_case: dict[str, Any], seen: list[tuple[str, str]], message: str
) -> None:
    record = asked(attempts=len(seen), version=seen[-1][0])
    found = objection(record, attempts(record, *seen), use_case)

    assert (message in found, bool(found)) == (True, bool(message))


@pytest.mark.parametrize("first", ["CANCELLED", "OK"])  # OK: the answer was on its way when the time was over
def test_the_end_of_an_attempts_own_time_is_a_reason_for_a_retry(first: str) -> None:
    record = asked(attempts=2)
    seen = attempts(record, ("v1", first), ("v1", "OK"), every_ms=100)
    tries = {"retries": {**RETRIES, "per_try": "100ms"}}

    assert objection(record, seen, tries) == ""
    assert f"a retry after {first}" in objection(record, seen, {"retries": {**RETRIES, "per_try": "300ms"}})


@pytest.mark.parametrize(
    ("every_ms", "first", "message"), [(150, "OK", ""), (50, "OK", "a hedge after"), (5, "UNAVAILABLE", "")]
)
def test_a_hedge_comes_after_its_time_or_after_a_failure(every_ms: float, first: str, message: str) -> None:
    record = asked(attempts=2)
    seen = attempts(record, ("v1", first), ("v1", "OK"), every_ms=every_ms)
    hedge = {"hedge": {"after": "150ms", "at_least": 1}, "idempotent": True}
    found = objection(record, seen, hedge)

    assert (message in found, bool(found)) == (True, bool(message))


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([("v1", "INTERNAL"), ("v2", "OK")], ""),
        ([("v1", "INTERNAL"), ("v2", "UNAVAILABLE"), ("v4", "OK")], ""),
        ([("v1", "INTERNAL"), ("v4", "OK")], "fallback rows.v2 was skipped without a reason"),
        ([("v1", "INTERNAL"), ("v4", "INTERNAL"), ("v2", "OK")], "fallback rows.v2 was skipped"),
        ([("v1", "PERMISSION_DENIED"), ("v2", "OK")], "a fallback after PERMISSION_DENIED"),
        ([("v2", "OK")], "rows.v1 was skipped without a reason"),
    ],
)
def test_fallbacks_come_in_order_and_a_skipped_one_needs_a_reason(seen: list[tuple[str, str]], message: str) -> None:
    version = seen[-1][0]
    record = asked(attempts=len(seen), version=version, source="fallback")
    found = objection(record, attempts(record, *seen), {"fallback": FALLBACKS})
    assert (message in found, bool(found)) == (True, bool(message))

    hit = [FaultWindow(f"{name} killed", name, START_NS, None, kills=True) for name in ("v1", "v2")]
    if "skipped" in message and version != "v2":
        verdict = judge([record], attempts(record, *seen), {"fallback": FALLBACKS}, fault_windows=hit)
        assert verdict.outcome == Outcome.VALID
        slow = [replace(each, statuses=frozenset({"DEADLINE_EXCEEDED"})) for each in hit]
        verdict = judge([record], attempts(record, *seen), {"fallback": FALLBACKS}, fault_windows=slow)
        assert verdict.outcome == Outcome.INVALID


def test_a_fallback_that_was_not_tried_needs_a_reason() -> None:
    record = asked(status="INTERNAL", attempts=1)
    failed = attempts(record, ("v1", "INTERNAL"))
    assert "fallback rows.v2 was not tried" in objection(record, failed, {"fallback": FALLBACKS})

    assert objection(record, failed) == ""
    late = replace(record, done_ns=record.sent_ns + 1_000 * MS)
    assert objection(late, failed, {"fallback": FALLBACKS}) == ""


def test_a_request_is_over_with_its_timeout_and_not_before() -> None:
    record = asked()
    took = {ms: replace(record, done_ns=record.sent_ns + ms * MS) for ms in (1_900, 2_100)}
    assert objection(took[1_900], [arrival(record)]) == ""
    assert "took 2100 ms; its timeout is 1000 ms" in objection(took[2_100], [arrival(record)])
    stalled = make_record(1, sent_ns=START_NS + 201 * MS, done_ns=START_NS + 202 * MS, replica="v1-a", cluster="v1")
    verdict = judge([took[2_100], stalled], [arrival(record), arrival(stalled)])
    assert verdict.outcome == Outcome.VALID

    ended = {ms: asked(status="DEADLINE_EXCEEDED", done_ns=record.sent_ns + ms * MS) for ms in (500, 990)}
    assert "timed out after 500 ms" in objection(ended[500], [arrival(record)])
    assert objection(ended[990], [arrival(record)]) == ""
    assert judge([ended[500], stalled], [arrival(record), arrival(stalled)]).outcome == Outcome.INVALID
    ended_800 = replace(ended[500], done_ns=record.sent_ns + 800 * MS)
    assert judge([ended_800, stalled], [arrival(record), arrival(stalled)]).outcome == Outcome.VALID


def test_a_delay_of_the_driver_excuses_only_the_requests_of_its_time() -> None:
    record, seconds = asked(), 5_000 * MS
    late = replace(record, done_ns=record.sent_ns + 2_100 * MS)
    early = asked(status="DEADLINE_EXCEEDED", done_ns=record.sent_ns + 800 * MS)
    sent_ns = START_NS + seconds
    away = {"replica": "v1-a", "cluster": "v1"}
    stalled = make_record(1, intended_ns=sent_ns - 300 * MS, sent_ns=sent_ns, done_ns=sent_ns + MS, **away)
    seen = [arrival(record), arrival(stalled)]

    for each in (late, early):
        assert judge([each, stalled], seen).outcome == Outcome.INVALID
        meanwhile = replace(stalled, sent_ns=each.done_ns, done_ns=each.done_ns + MS, intended_ns=START_NS)
        assert judge([each, meanwhile], seen).outcome == Outcome.VALID


@pytest.mark.parametrize(("role", "outcome"), [("sidecar", Outcome.VALID), ("resolver", Outcome.INVALID)])
def test_a_proxy_that_was_starved_may_end_a_request_early(role: str, outcome: Outcome) -> None:
    record = asked(status="DEADLINE_EXCEEDED")
    record = replace(record, done_ns=record.sent_ns + 500 * MS)
    starved = FaultWindow(f"{role} starved", role, record.sent_ns - 1, record.sent_ns + 1, role=role)
    verdict = judge([record], [arrival(record)], fault_windows=[starved], abilities=replace(CAN, between=("sidecar",)))
    assert verdict.outcome == outcome


def test_extra_attempts_stay_within_the_budget_of_the_requests_in_flight() -> None:
    records = [asked(number, attempts=2) for number in range(12)]
    retried = {"retries": {"on": ["internal"]}}  # 20 per hundred: two extra attempts beside twelve in flight

    def seen(extras: int) -> list[Arrival]:
        first, rest = records[:extras], records[extras:]
        twice = [
            each._replace(ended_ns=START_NS + 400 * MS) if each.status == "OK" else each
            for record in first
            for each in attempts(record, ("v1", "INTERNAL"), ("v1", "OK"), every_ms=100)
        ]
        return twice + [arrival(record) for record in rest]

    def made(extras: int) -> list[Record]:
        return [replace(record, attempts=1 + (number < extras)) for number, record in enumerate(records)]

    assert judge(made(2), seen(2), retried).outcome == Outcome.VALID
    verdict = judge(made(3), seen(3), retried)
    assert len(verdict.violations) == 1
    assert "3 extra attempts at rows.v1 in flight at once; the budget allows 2 beside" in verdict.violations[0].message
    more = {"retries": {"on": ["internal"], "at_least": 1}}
    assert judge(made(3), seen(3), more).outcome == Outcome.VALID
    assert judge(made(3), seen(3), retried, abilities=replace(CAN, budgets_retries=False)).outcome == Outcome.VALID


RETRIED = {"retries": {"attempts": 3, "on": ["internal"], "at_least": 1}}
HEDGED = {"hedge": {"after": "100ms", "at_least": 1}}


def test_a_retry_that_was_due_and_never_came_needs_a_reason() -> None:
    can = replace(CAN, retries=True)
    failed = asked(status="INTERNAL", attempts=1)
    seen = attempts(failed, ("v1", "INTERNAL"))

    verdict = judge([failed], seen, RETRIED, abilities=can)
    [violation] = verdict.violations
    assert "rows.v1 ended it with INTERNAL; attempt 2 was never made" in violation.message

    def outcome(record: Record, use_case: Mapping[str, Any] = RETRIED, **changes: Any) -> Outcome:
        return judge([record], seen, use_case, **{"abilities": can, **changes}).outcome

    assert outcome(failed, abilities=CAN) == Outcome.VALID  # a topology without retries
    assert outcome(failed, {"retries": {**RETRIED["retries"], "on": ["unavailable"]}}) == Outcome.VALID
    assert outcome(failed, {"retries": {**RETRIED["retries"], "at_least": 0}}) == Outcome.VALID
    assert outcome(failed, {**RETRIED, "breaker": {"requests": 1}}) == Outcome.VALID
    assert outcome(replace(failed, streamed=1)) == Outcome.VALID
    assert outcome(replace(failed, payload_bytes=2**20)) == Outcome.VALID
    assert outcome(replace(failed, done_ns=failed.sent_ns + 990 * MS)) == Outcome.VALID
    killed = FaultWindow("v1-b killed", "v1-b", failed.sent_ns - 1, None, kills=True)
    assert outcome(failed, fault_windows=[killed]) == Outcome.VALID
    errors = replace(killed, text="v1-b fails", kills=False)
    assert outcome(failed, fault_windows=[errors]) == Outcome.INVALID
    assert outcome(replace(failed, attempts=2), fault_windows=[errors]) == Outcome.VALID  # one reached no model
    unbudgeted = replace(can, budgets_retries=False)
    assert outcome(failed, {"retries": {"on": ["internal"]}}, abilities=unbudgeted) == Outcome.INVALID


@pytest.mark.parametrize(("after_ms", "outcome"), [(0, Outcome.VALID), (5_000, Outcome.INVALID)])
def test_a_budget_that_others_use_may_refuse_a_retry(after_ms: int, outcome: Outcome) -> None:
    failed, other = asked(status="INTERNAL", attempts=1), asked(1, attempts=2)
    began_ns = failed.sent_ns + after_ms * MS
    other = replace(other, sent_ns=began_ns, intended_ns=began_ns, done_ns=began_ns + 500 * MS)
    seen = [*attempts(failed, ("v1", "INTERNAL")), *attempts(other, ("v1", "INTERNAL"), ("v1", "OK"))]

    assert judge([failed, other], seen, RETRIED, abilities=replace(CAN, retries=True)).outcome == outcome


def test_a_hedge_that_was_due_and_never_came_needs_a_reason() -> None:
    can, slow = replace(CAN, hedges=True), asked()
    seen = arrival(slow)._replace(ended_ns=slow.done_ns - MS)

    verdict = judge([slow], [seen], HEDGED, abilities=can)
    [violation] = verdict.violations
    assert "rows.v1 took 498 ms; no second attempt began beside it" in violation.message
    assert judge([slow], [seen], HEDGED).outcome == Outcome.VALID  # a topology without hedges
    in_time = seen._replace(ended_ns=seen.arrived_ns + 290 * MS)
    assert judge([slow], [in_time], HEDGED, abilities=can).outcome == Outcome.VALID
    second = arrival(slow, 101, replica="v1-b")
    hedged = replace(slow, attempts=2)
    assert judge([hedged], [seen, second], HEDGED, abilities=can).outcome == Outcome.VALID


def test_an_attempt_that_is_answered_after_its_own_time_limit_is_wrong() -> None:
    can, slow = replace(CAN, limits_attempts=True), asked()
    limited = {"retries": {"per_try": "100ms"}}
    seen = arrival(slow)._replace(ended_ns=slow.done_ns - MS)

    verdict = judge([slow], [seen], limited, abilities=can)
    [violation] = verdict.violations
    assert "the attempt that was answered took 498 ms; an attempt may take 100 ms" in violation.message
    assert judge([slow], [seen], limited).outcome == Outcome.VALID  # a topology without such limits
    in_time = seen._replace(ended_ns=seen.arrived_ns + 290 * MS)
    assert judge([slow], [in_time], limited, abilities=can).outcome == Outcome.VALID
    frozen = FaultWindow("sidecar frozen", "sidecar", slow.sent_ns - 1, slow.sent_ns + 1, role="sidecar")
    between = replace(can, between=("sidecar",))
    assert judge([slow], [seen], limited, abilities=between, fault_windows=[frozen]).outcome == Outcome.VALID


def test_what_a_replica_cannot_say_is_counted_and_no_pass() -> None:
    arrival_gaps = [ArrivalGap("v1-a", None, "cannot be asked")]
    records = [asked(), asked(1, device="tv", version="v3")]

    verdict = judge(records, [arrival(records[1], routing_key="rows.v3", replica="v3-a")], arrival_gaps=arrival_gaps)
    assert verdict.outcome == Outcome.VALID
    assert "1 not wholly shown, as not all can say what they received: v1-a (cannot be asked)" in verdict.summary
    assert judge(records[:1], [], arrival_gaps=arrival_gaps).outcome == Outcome.UNKNOWN


def test_a_topology_that_follows_no_rules_is_judged_by_its_answers_alone() -> None:
    record = asked(version="v3")
    seen = attempts(record, ("v3", "OK"))

    assert judge([record], seen, abilities=replace(CAN, follows_rules=False)).outcome == Outcome.VALID
    assert judge([record], seen).outcome == Outcome.INVALID


@pytest.mark.parametrize(
    ("status", "last", "wrong"),
    [
        ("INTERNAL", "INTERNAL", False),
        ("UNKNOWN", "INTERNAL", True),
        ("UNAVAILABLE", "INTERNAL", True),
        ("DEADLINE_EXCEEDED", "INTERNAL", False),
        ("UNAVAILABLE", "CANCELLED", False),
    ],
)
def test_a_request_fails_with_the_status_of_its_last_attempt(status: str, last: str, *, wrong: bool) -> None:
    record = asked(status=status)
    verdict = judge([record], [arrival(record, status=last)])
    said = f"failed with {status}, by the caller's word; its last attempt ended with {last}"
    assert any(said in each.message for each in verdict.violations) == wrong
    killed = FaultWindow("v1-b killed", "v1-b", START_NS, None, kills=True)
    verdict = judge([record], [arrival(record, status=last)], fault_windows=[killed])
    assert not any(said in each.message for each in verdict.violations)
