"""Timeouts, limits of attempts and hedges that come late each time, while answers do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Outcome
from tests.checkers.attempts import CAN, MS, RETRIES, arrival, asked, judge

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
