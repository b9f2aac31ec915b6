from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.checkers.kinds import driver
from tests.checkers.builders import make_evidence, make_record

if TYPE_CHECKING:
    from lab.history import Record


N = 1_000
MS = 1_000_000


@pytest.fixture
def records() -> list[Record]:
    """1,000 requests, one a millisecond, each sent 10 µs late."""
    return [make_record(number) for number in range(N)]


def slowed(records: list[Record], factor: float) -> list[Record]:
    start = records[0].sent_ns
    return [replace(record, sent_ns=start + int((record.sent_ns - start) * factor)) for record in records]


def test_a_driver_that_kept_its_plan_is_valid(records: list[Record]) -> None:
    verdict = driver.check(make_evidence(records))
    assert verdict.outcome == "valid"
    assert verdict.summary == "offered 1000.0 rps, achieved 1000.0; schedule delay p99 0.01 ms"


def test_a_driver_that_missed_its_rate_proves_nothing(records: list[Record]) -> None:
    within = driver.check(make_evidence(slowed(records, 1.005), schedule_delay_bound_ms=100))
    assert within.outcome == "valid"
    beyond = driver.check(make_evidence(slowed(records, 1.02), schedule_delay_bound_ms=100))
    assert beyond.outcome == "unknown"
    assert beyond.summary.startswith("the driver missed its rate by more than 1%; offered 1000.0 rps, achieved 980.4")


def test_a_driver_that_sent_late_proves_nothing(records: list[Record]) -> None:
    def late(every: int) -> list[Record]:
        return [
            replace(record, sent_ns=record.sent_ns + 6 * MS) if record.sequence % every == 1 else record
            for record in records
        ]

    assert driver.check(make_evidence(late(every=200))).outcome == "valid"
    verdict = driver.check(make_evidence(late(every=50)))
    assert verdict.outcome == "unknown"
    assert verdict.summary.startswith("the schedule delay is above its bound of 5 ms; ")
    assert driver.check(make_evidence(late(every=50), schedule_delay_bound_ms=7)).outcome == "valid"


def test_arrivals_that_are_not_those_of_the_plan_prove_nothing(records: list[Record]) -> None:
    # 5 sigma of 1,000 Poisson arrivals are 16 %.
    assert driver.check(make_evidence(records, offered_rate=1_100)).outcome == "valid"
    verdict = driver.check(make_evidence(records, offered_rate=2_000))
    assert verdict.outcome == "unknown"
    assert verdict.summary.startswith("the arrivals amount to 1000.0 rps of the offered 2000.0; ")


def test_requests_that_were_not_sent_lower_the_rate(records: list[Record]) -> None:
    half = [record if record.sequence % 2 else make_record(record.sequence, status="UNSENT") for record in records]
    assert driver.check(make_evidence(half)).outcome == "unknown"


def test_a_driver_that_was_stopped_is_held_against_what_was_due_until_then(records: list[Record]) -> None:
    gap_ns = 1_000 * MS  # after the stop, arrivals would have been rarer
    rest = [
        replace(make_record(each, status="UNSENT"), intended_ns=records[-1].intended_ns + gap_ns * (each - 999))
        for each in range(1_000, 1_100)
    ]
    assert driver.rates([*records, *rest]) == driver.rates(records)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_requests_have_no_rate(records: list[Record], count: int) -> None:
    verdict = driver.check(make_evidence(records[:count]))
    assert (verdict.outcome, verdict.summary) == ("unknown", f"{count} sent: too few to have a rate")


def test_a_run_steered_by_hand_is_held_against_its_own_times_only(records: list[Record]) -> None:
    verdict = driver.check(make_evidence(records, offered_rate=None))
    assert verdict.outcome == "valid"
    assert verdict.summary == (
        "steered by hand: no offered rate, intended 1000.0 rps, achieved 1000.0; schedule delay p99 0.01 ms"
    )
    late = driver.check(make_evidence(slowed(records, 1.02), offered_rate=None, schedule_delay_bound_ms=100))
    assert late.outcome == "unknown"
    assert late.summary.startswith("the driver missed its rate by more than 1%; steered by hand: ")


def test_a_closed_loop_is_called_one_whatever_the_verdict(records: list[Record]) -> None:
    kept, missed, too_few = (
        driver.check(make_evidence(some, offered_rate=None, closed_loop=True))
        for some in (records, slowed(records, 1.02), records[:1])
    )
    assert (kept.outcome, missed.outcome, too_few.outcome) == ("valid", "unknown", "unknown")
    assert all("closed loop" in each.summary for each in (kept, missed, too_few))
    assert all("offered 1" not in each.summary for each in (kept, missed, too_few))
