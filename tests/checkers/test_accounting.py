from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers.kinds import accounting
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history import Record

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


def test_a_run_that_was_stopped_is_judged_by_what_was_sent() -> None:
    records = [make_record(0), make_record(1), make_record(2, status="UNSENT")]
    verdict = accounting.check(make_evidence(records, stopped=True))
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "3 planned, 3 recorded, 1 not sent, as the run was stopped after 0 s",
    )


@pytest.mark.parametrize("unsent", [(0,), (1,), (0, 1, 2)])
def test_what_a_stop_does_not_explain_is_unknown(unsent: tuple[int, ...]) -> None:
    records = [make_record(number, status="UNSENT" if number in unsent else "OK") for number in range(3)]
    assert accounting.check(make_evidence(records, stopped=True)).outcome == "unknown"


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


WINDOW = (START_NS - 1, START_NS + 10 * STEP_NS)


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"status": "BANANA"}, "status 'BANANA' is none of gRPC's"),
        ({"topology": "gateway"}, "topology 'gateway', and the plan has 'mesh' alone"),
        ({"caller": "search"}, "caller 'search', and the plan has 'homepage' alone"),
        ({"routing_key": "rows.v9"}, "routing key 'rows.v9' is in none of the run's tables"),
        ({"routing_key": "nonsense"}, "routing key 'nonsense' is in none of the run's tables"),
        ({"done_ns": START_NS + 15_100_000_000}, "took 15.1 s, with a timeout of 10 s"),
        ({"intended_ns": 1, "sent_ns": START_NS - 1_100_000_000}, "sent 1.1 s before the run began"),
        ({"done_ns": START_NS + 1_210_000_000}, "done 1.2 s after the run had ended"),
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_invalid(changes: dict[str, Any], objection: str) -> None:
    records = [make_record(number) for number in range(10)]
    records[3] = replace(records[3], **changes)

    (violation,) = _judge_strictly(records).violations

    assert (violation.sequence, violation.message) == (3, objection)


def test_values_at_their_bounds_can_be() -> None:
    records = [make_record(number) for number in range(10)]
    records[3] = replace(records[3], sent_ns=START_NS + 3 * STEP_NS, done_ns=START_NS + 3 * STEP_NS + 999_000_000)
    records[4] = replace(records[4], done_ns=0, sent_ns=0, status="UNSENT", routing_key="")

    assert _judge_strictly(records).violations == ()


def test_all_times_a_year_later_are_outside_the_run() -> None:
    year_ns = 365 * 24 * 3600 * 1_000_000_000
    records = [
        replace(each, **{name: getattr(each, name) + year_ns for name in ("intended_ns", "sent_ns", "done_ns")})
        for each in map(make_record, range(10))
    ]

    assert len(_judge_strictly(records).violations) == 10


def _judge_strictly(records: list[Record]) -> Verdict:
    return accounting.check(
        make_evidence(records, topology="mesh", caller="homepage", timeout_s=10.0, window_ns=WINDOW)
    )


def _arrival(request_id: str, **changes: Any) -> Arrival:
    arrival = Arrival(request_id, "a-0", "rows.v1", False, "", "", START_NS, START_NS + 1, "OK")  # noqa: FBT003
    return arrival._replace(**changes)


@pytest.mark.parametrize(
    ("arrival", "lost"),
    [
        (_arrival("run-5"), [5]),
        (_arrival("run-a", is_copy=True), []),
        (_arrival("run-a", status="UNAVAILABLE"), [10]),
        (_arrival("run-a", status="", ended_ns=0), [10]),
        (_arrival("run-again"), [-1]),
        (_arrival("run-a", ended_ns=START_NS + 9_000_000_000), []),
        (_arrival("other-a"), []),
        (_arrival("run-1"), []),
    ],
    ids=[
        "lost",
        "copy",
        "failed",
        "under way",
        "no sequence",
        "just before the driver was killed",
        "another driver's",
        "recorded",
    ],
)
def test_a_request_that_a_replica_received_has_a_record(arrival: Arrival, lost: list[int]) -> None:
    records = [make_record(0, request_id="run-0"), make_record(1, request_id="run-1", sent_ns=START_NS + 10**10)]
    records[1] = replace(records[1], done_ns=START_NS + 10**10 + 1)
    verdict = accounting.check(make_evidence(records, arrivals=[arrival]))
    assert [each.sequence for each in verdict.violations] == lost
