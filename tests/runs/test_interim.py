"""Verdicts while a run goes on: on the beginning of its plan that is complete."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.checkers import Outcome, check
from lab.checkers.plain_schedule import PlannedRequest, PlannedRun
from lab.history import Record
from lab.runs.interim import beginning
from tests.checkers.builders import make_evidence, make_record

PLAN = PlannedRun([PlannedRequest(number * 1_000_000) for number in range(10)], "constant", 1000, 10_000_000)


def accounting(records: list[Record]) -> tuple[Outcome, str]:
    evidence = replace(make_evidence(records), plan=PLAN, planned=10)
    verdicts = {each.checker: each for each in check(beginning(evidence))}
    return verdicts["accounting"].outcome, verdicts["accounting"].summary


@pytest.mark.parametrize("count", [1, 5, 10])
def test_requests_that_are_not_due_yet_are_not_missing(count: int) -> None:
    assert accounting([make_record(number) for number in range(count)]) == (
        Outcome.VALID,
        f"{count} planned, {count} recorded",
    )


def test_requests_behind_one_in_flight_wait_for_it() -> None:
    records = [make_record(number) for number in (0, 1, 3, 4)]

    assert accounting(records) == (Outcome.VALID, "2 planned, 2 recorded")


def test_a_request_that_is_recorded_twice_is_found_at_once() -> None:
    twice = [make_record(0), make_record(1), make_record(1)]

    assert accounting(twice)[0] is Outcome.INVALID


def test_the_shorter_plan_ends_when_the_next_request_is_due() -> None:
    evidence = beginning(replace(make_evidence([make_record(number) for number in range(4)]), plan=PLAN, planned=10))

    assert evidence.plan is not None
    assert (len(evidence.plan.requests), evidence.plan.duration_ns, evidence.offered_rate) == (4, 4_000_000, 1000.0)
