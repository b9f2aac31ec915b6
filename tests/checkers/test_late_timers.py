"""Timers and answers that come late each time, while others do not, and pauses that are always too short."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import FaultWindow, Outcome
from lab.checkers.kinds import streams
from tests.checkers.attempts import CAN, MS, RETRIES, arrival, asked, judge
from tests.checkers.builders import START_NS, best_first, items_of, make_evidence, make_table

if TYPE_CHECKING:
    from lab.history import Record
    from lab.history.arrivals import Arrival


def _timed_out(count: int, after_ms: float, **changes: Any) -> tuple[list[Record], list[Arrival]]:
    """Requests that time out after this time, between as many that are answered 5 ms after their model has."""
    records, arrivals = [], []
    for number in range(count):
        late, good = asked(2 * number, status="DEADLINE_EXCEEDED"), asked(2 * number + 1)
        late = replace(late, done_ns=late.sent_ns + round(after_ms * MS), **changes)
        good = replace(good, done_ns=good.sent_ns + 6 * MS)
        records += [late, good]
        arrivals += [arrival(late, ended_ns=late.done_ns, status="CANCELLED"), arrival(good)]
    return records, arrivals


@pytest.mark.parametrize(("count", "after_ms", "wrong"), [(10, 1_060, 0), (10, 1_200, 10), (9, 1_200, 0)])
def test_timeouts_that_all_come_late_are_wrong(count: int, after_ms: float, wrong: int) -> None:
    verdict = judge(*_timed_out(count, after_ms))
    assert len(verdict.violations) == wrong
    if wrong:
        assert "timed out after 1200 ms, as most others did; the table says 1000 ms" in str(verdict.violations[0])


def test_timeouts_that_all_come_while_the_driver_is_late_show_a_busy_machine() -> None:
    records, arrivals = _timed_out(10, 1_200)
    late = [replace(each, intended_ns=each.sent_ns - 60 * MS) for each in records]
    assert judge(late, arrivals).outcome == Outcome.VALID
    late = [replace(each, intended_ns=each.sent_ns - 40 * MS) for each in records]
    assert len(judge(late, arrivals).violations) == 10


def test_timeouts_of_which_some_come_late_are_a_busy_machines() -> None:
    some, late = _timed_out(10, 1_010), _timed_out(20, 1_900)
    records, arrivals = some[0] + late[0][20:], some[1] + late[1][20:]
    assert judge(records, arrivals).outcome == Outcome.VALID


def test_late_timeouts_show_nothing_where_all_requests_are_slow() -> None:
    records, arrivals = _timed_out(10, 1_200)
    slow = [replace(each, done_ns=each.sent_ns + 100 * MS) if each.status == "OK" else each for each in records]
    assert judge(slow, arrivals).outcome == Outcome.VALID


@pytest.mark.parametrize(("limit", "wrong"), [("300ms", 0), ("150ms", 10)])
def test_attempts_that_are_all_cut_off_late_are_wrong(limit: str, wrong: int) -> None:
    records, arrivals = _timed_out(10, 1_000)
    cut = [
        each._replace(ended_ns=each.arrived_ns + 310 * MS) if each.status == "CANCELLED" else each for each in arrivals
    ]
    limited = replace(CAN, limits_attempts=True)
    verdict = judge(records, cut, {"retries": {**RETRIES, "per_try": limit}}, abilities=limited)
    late = [each for each in verdict.violations if "an attempt ended after 310 ms" in each.message]
    assert len(late) == wrong


@pytest.mark.parametrize(("after", "wrong"), [("180ms", 0), ("100ms", 10)])
def test_hedges_that_all_come_late_are_wrong(after: str, wrong: int) -> None:
    records, arrivals = [], []
    for number in range(10):
        hedged, good = asked(2 * number, attempts=2), asked(2 * number + 1)
        records += [hedged, replace(good, done_ns=good.sent_ns + 6 * MS)]
        arrivals += [
            arrival(hedged, 1, ended_ns=hedged.done_ns, status="CANCELLED"),
            arrival(hedged, 200, ended_ns=hedged.done_ns - MS, replica="v1-b"),
            arrival(good),
        ]
    records = [replace(each, replica="v1-b") if each.attempts > 1 else each for each in records]
    verdict = judge(records, arrivals, {"hedge": {"after": after, "at_least": 9}, "idempotent": True})
    assert [each.message for each in verdict.violations if "hedged after 199 ms" not in each.message] == []
    assert len(verdict.violations) == wrong


def _hedged(over_ms: float, first_ended_ms: float = 0, first: str = "CANCELLED") -> tuple[list[Record], list[Arrival]]:
    """Ten requests, each over this time after its second attempt ended well; the first ended this much later."""
    records, arrivals = [], []
    for number in range(10):
        hedged, good = asked(2 * number, attempts=2), asked(2 * number + 1)
        ended_ns = hedged.sent_ns + 300 * MS
        hedged = replace(hedged, replica="v1-b", done_ns=ended_ns + round(over_ms * MS))
        records += [hedged, replace(good, done_ns=good.sent_ns + 6 * MS)]
        arrivals += [
            arrival(hedged, 1, ended_ns=ended_ns + round(first_ended_ms * MS), status=first),
            arrival(hedged, 155, ended_ns=ended_ns, replica="v1-b"),
            arrival(good),
        ]
    return records, arrivals


HEDGE = {"hedge": {"after": "150ms", "at_least": 9}, "idempotent": True}


@pytest.mark.parametrize(("over_ms", "first", "wrong"), [(2, "OK", 0), (160, "OK", 10), (160, "CANCELLED", 10)])
def test_hedged_requests_that_all_end_late_are_wrong(over_ms: float, first: str, wrong: int) -> None:
    verdict = judge(*_hedged(over_ms, over_ms, first), HEDGE)
    assert len(verdict.violations) == wrong
    if wrong:
        message = verdict.violations[0].message
        assert "a hedged request was over after 160 ms, as most others did; a model had answered it by then" in message


@pytest.mark.parametrize(("first_ended_ms", "wrong"), [(1, 0), (-4, 0), (-140, 10)])
def test_no_attempt_is_cancelled_before_one_of_both_is_answered(first_ended_ms: float, wrong: int) -> None:
    verdict = judge(*_hedged(2, first_ended_ms), HEDGE)
    assert len(verdict.violations) == wrong
    if wrong:
        assert "an attempt was cancelled 140 ms before the other one was answered" in verdict.violations[0].message


@pytest.mark.parametrize(("closes", "wrong"), [(True, 0), (False, 10)])
def test_a_fault_that_closes_connections_cancels_attempts_beside_a_hedge(*, closes: bool, wrong: int) -> None:
    fault = FaultWindow(
        "rows-a churned",
        "rows-a",
        START_NS,
        None,
        statuses=frozenset() if closes else frozenset({"DEADLINE_EXCEEDED"}),
        role="model",
    )
    verdict = judge(*_hedged(2, -140), HEDGE, fault_windows=[fault])
    assert len(verdict.violations) == wrong


@pytest.mark.parametrize(
    ("count", "delayed", "wrong"),
    [(20, 0, 20), (19, 0, 0), (20, 4, 16), (20, 5, 0), (20, 20, 0)],
    ids=["all", "few", "most", "some", "none"],
)
def test_retries_that_mostly_come_at_once_are_wrong(count: int, delayed: int, wrong: int) -> None:
    records = [asked(number, attempts=2) for number in range(count)]
    failed = [arrival(each, status="INTERNAL") for each in records]
    again = [
        arrival(each, replica="v1-b", after_ms=(9 if number < delayed else 1) + (one.ended_ns - each.sent_ns) / MS)
        for number, (each, one) in enumerate(zip(records, failed, strict=True))
    ]
    verdict = judge([replace(each, replica="v1-b") for each in records], failed + again, {"retries": RETRIES})
    assert len(verdict.violations) == wrong
    if wrong:
        assert "a retry came after 1.0 ms, and most others as early; the table says up to 25 ms" in str(
            verdict.violations
        )


LATE = "a stream's first item came after 98 ms, as most others did; its model had sent it after 10 ms"
TOGETHER = "a stream's items came within 6.0 ms, as those of most others did; its model sent them over 90 ms"


@pytest.mark.parametrize(
    ("first_ms", "usual_ms", "says"),
    [(11, 1, ""), (99, 1, LATE), (99, 40, TOGETHER), (11, 40, ""), (99, 60, "")],
    ids=["in time", "late", "late on a busy machine", "in time on a busy machine", "on a machine too busy to tell"],
)
def test_first_items_of_streams_that_all_come_late_are_wrong(first_ms: float, usual_ms: float, says: str) -> None:
    records, arrivals = [], []
    for number in range(10):
        stream, good = asked(2 * number), asked(2 * number + 1)
        stream = items_of(replace(stream, done_ns=stream.sent_ns + 105 * MS), best_first(stream))
        good = replace(good, done_ns=good.sent_ns + round((5 + usual_ms) * MS))
        records += [replace(stream, first_item_ns=round(first_ms * MS)), good]
        arrivals += [arrival(stream, 1, ended_ns=stream.sent_ns + 101 * MS), arrival(good)]
    verdict = streams.check(make_evidence(records, table=make_table({"rows@v1": 100}), arrivals=arrivals))
    assert verdict is not None
    assert [each.message for each in verdict.violations] == [says] * (10 if says else 0)
