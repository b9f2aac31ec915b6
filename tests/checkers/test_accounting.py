from __future__ import annotations

from typing import Any

import pytest

from lab.checkers.kinds import accounting
from tests.checkers.builders import make_evidence, make_record

N = 10


def test_every_request_once_is_valid() -> None:
    records = [make_record(number) for number in reversed(range(N))]
    verdict = accounting.check(make_evidence(records))
    assert (verdict.outcome, verdict.summary) == ("valid", "10 planned, 10 recorded")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence": 2}, "sequence 2 is recorded twice"),
        ({"sequence": N}, "sequence 10 was not planned: the plan has 0 to 9"),
        ({"sequence": -1}, "sequence -1 was not planned: the plan has 0 to 9"),
        ({"request_id": "r2"}, "request id r2 is used twice"),
        ({"sent_ns": 1}, "ns before it was to be sent"),
        ({"done_ns": 1}, "ns before it was sent"),
    ],
)
def test_a_history_that_contradicts_itself_is_invalid(changes: dict[str, Any], message: str) -> None:
    records = [make_record(number) for number in range(N - 1)]
    of_last: dict[str, Any] = {"sequence": N - 1, "request_id": "last", **changes}
    last = make_record(**of_last)
    verdict = accounting.check(make_evidence([*records, last]))
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    assert message in violation.message


def test_a_request_too_many_is_invalid_even_if_all_are_there() -> None:
    records = [make_record(number) for number in range(N)]
    verdict = accounting.check(make_evidence([*records, make_record(3, request_id="again")], planned=N))
    assert (verdict.outcome, verdict.violations[0].sequence) == ("invalid", 3)


def test_a_missing_request_is_unknown() -> None:
    records = [make_record(number) for number in range(N) if number != 4]
    verdict = accounting.check(make_evidence(records, planned=N))
    assert (verdict.outcome, verdict.summary) == ("unknown", "10 planned, 9 recorded, 1 missing")


def test_a_request_that_was_not_sent_is_unknown() -> None:
    records = [make_record(0), make_record(1, status="UNSENT")]
    verdict = accounting.check(make_evidence(records))
    assert (verdict.outcome, verdict.summary) == ("unknown", "2 planned, 2 recorded, 1 not sent")


def test_an_empty_plan_is_unknown() -> None:
    assert accounting.check(make_evidence([])).outcome == "unknown"


def test_without_a_schedule_sequences_may_have_gaps_but_none_comes_twice() -> None:
    records = [make_record(sequence) for sequence in (0, 2, 4, 1)]

    complete = accounting.check(make_evidence(records, planned=4, offered_rate=None))
    missing = accounting.check(make_evidence(records, planned=5, offered_rate=None))
    twice = accounting.check(make_evidence([*records, make_record(4)], planned=5, offered_rate=None))
    nobody_knows = accounting.check(make_evidence(records, planned=0, offered_rate=None))

    assert (complete.outcome, complete.summary) == ("valid", "4 came due, 4 recorded")
    assert (missing.outcome, missing.summary) == ("unknown", "5 came due, 4 recorded, 1 missing")
    assert (twice.outcome, len(twice.violations)) == ("invalid", 1)
    assert nobody_knows.outcome == "unknown"
