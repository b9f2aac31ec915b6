"""What the driver says of times must fit what models say of the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Driver
from lab.checkers.kinds import times
from tests.checkers.attempts import MS, arrival, asked
from tests.checkers.builders import make_evidence, make_table

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history import Record


def judge(
    records: Sequence[Record], *, ahead_ms: float = 0, status: str = "OK", attempts: int = 1, **evidence: Any
) -> Verdict | None:
    """The verdict on requests that a model had from 1 ms after their sending for 98 ms, by a clock that is ahead."""
    arrivals = [
        arrival(each, 1 + ahead_ms, ended_ns=each.sent_ns + round((99 + ahead_ms) * MS), status=status)
        for each in records
        for _ in range(attempts)
    ]
    return times.check(make_evidence(records, table=make_table({"rows@v1": 100}), arrivals=arrivals, **evidence))


def driver(error_ms: float) -> Driver:
    """One of several drivers, whose clock is known so well."""
    clock = {"clock_ms": 0.0, "clock_error_ms": error_ms, "drift_ms": 0.0}
    return Driver(name="driver 1", **clock, silent_s=1.0, problem="")


def took(*all_ms: float) -> list[Record]:
    """Requests that the driver says took so long."""
    records = [asked(number) for number in range(len(all_ms))]
    return [replace(each, done_ns=each.sent_ns + round(ms * MS)) for each, ms in zip(records, all_ms, strict=True)]


def outcome(verdict: Verdict | None) -> str:
    return verdict.outcome if verdict else "nothing"


@pytest.mark.parametrize("ahead_ms", [0, 40, -40])
def test_an_answer_comes_after_the_model_gave_it_however_the_clocks_differ(ahead_ms: int) -> None:
    assert outcome(judge(took(100, 101, 130), ahead_ms=ahead_ms)) == "valid"
    verdict = judge(took(100, 50, 130), ahead_ms=ahead_ms)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "request #1 (r1) was answered 48.0 ms before v1-a can have answered it, by when others reached it"
    ]


@pytest.mark.parametrize(
    ("ahead_ms", "how"),
    [(40, "ended it 39.0 ms after its answer came"), (-40, "received it 39.0 ms before it was sent")],
)
def test_by_one_clock_a_replica_has_a_request_while_it_is_under_way(ahead_ms: float, how: str) -> None:
    assert outcome(judge(took(100), ahead_ms=ahead_ms)) == "valid"
    assert outcome(judge(took(100), one_clock=True)) == "valid"
    assert outcome(judge(took(100), ahead_ms=ahead_ms, one_clock=True, drivers=[driver(39.0)])) == "valid"
    for drivers in ([], [driver(1.0)]):
        verdict = judge(took(100), ahead_ms=ahead_ms, one_clock=True, drivers=drivers)
        assert verdict
        assert [each.message for each in verdict.violations] == [
            f"request #0 (r0): v1-a {how}, though both read one clock"
        ]


def test_requests_that_were_sent_before_the_driver_says_are_noticed() -> None:
    later = [replace(each, sent_ns=each.sent_ns + 5 * MS) for each in took(100, 100)]
    true = took(100, 100)
    arrivals = [arrival(each, 1, ended_ns=each.sent_ns + 99 * MS) for each in true]
    assert outcome(times.check(make_evidence(later, arrivals=arrivals))) == "invalid"
    assert outcome(times.check(make_evidence(true, arrivals=arrivals))) == "valid"


def test_no_replica_receives_a_request_after_it_has_ended_it() -> None:
    [record] = took(100)
    ended = arrival(record, ended_ns=record.sent_ns - 10 * MS)
    verdict = times.check(make_evidence([record], arrivals=[ended]))
    assert verdict
    assert "ended it before it received it" in verdict.violations[0].message


def test_clocks_are_compared_within_a_second() -> None:
    first, second = took(100, 100)
    second = replace(second, sent_ns=second.sent_ns + 2_000 * MS, done_ns=second.done_ns + 2_000 * MS)
    arrivals = [
        arrival(each, 1 + ahead, ended_ns=each.sent_ns + (99 + ahead) * MS) for each, ahead in ((first, 0), (second, 9))
    ]
    assert outcome(times.check(make_evidence([first, second], arrivals=arrivals))) == "valid"


def test_only_answers_of_one_attempt_are_compared() -> None:
    early = took(100, 50)
    assert outcome(judge(early, attempts=2)) == "nothing"
    assert outcome(judge(early, status="INTERNAL")) == "nothing"
    assert outcome(judge([replace(each, status="INTERNAL") for each in early])) == "nothing"
    assert times.check(make_evidence(early, arrivals=None)) is None
