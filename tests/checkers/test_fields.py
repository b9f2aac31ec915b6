"""Every field of a record and of an arrival is judged, or named as one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest

from lab.checkers import Evidence, Outcome, check, not_checked, plain_models
from lab.checkers.kinds import routing
from lab.history import Record
from lab.history.arrivals import Arrival
from models.apis import APIS
from tests.checkers.builders import make_evidence, make_record, two_versions
from tests.checkers.whole_run import whole_run

UNARY = 1_000
"""Place of the first single answer in the run to be changed; its streams are before it."""

S = 1_000_000_000
PLACES = {"items": 0, "first_item_ns": 1, "answer": -1}
"""Of fields that only streams have, and only copies, which come last among arrivals."""
# A value that is wrong by so little that it could be right is not found.
WRONG: Mapping[str, Any] = {"sent_ns": -S, "done_ns": -S, "first_item_ns": 10 * S, "attempts": -1}
WRONG_ARRIVALS: Mapping[str, Any] = {"via": "2 gateway", "arrived_ns": 2 * S, "ended_ns": 2 * S, "remaining_ms": 10_000}


RECORDS = [field.name for field in fields(Record)]


@cache
def run() -> Evidence:
    return whole_run()


def other(value: Any, by: Any = 1) -> Any:
    """Another value of the same kind."""
    if isinstance(value, str):
        return by if isinstance(by, str) else f"x{value}"
    return not value if isinstance(value, bool) else value + by


def objected(evidence: Evidence) -> set[int]:
    """The sequence numbers of the records that some checker objects to."""
    return {each.sequence for verdict in check(evidence) for each in verdict.violations}


@cache
def with_wrong_records(*names: str) -> set[int]:
    """What is objected to if each of these fields is wrong, each in another record: see :func:`place`."""
    records = list(run().records)
    for name in names:
        record = records[place(name)]
        records[place(name)] = replace(record, **{name: other(getattr(record, name), WRONG.get(name, 1))})
    return objected(replace(run(), records=records))


@cache
def with_wrong_arrivals(*names: str) -> set[int]:
    arrivals = list(run().arrivals or ())
    for name in names:
        arrival = arrivals[place(name)]
        wrong = {name: other(getattr(arrival, name), WRONG_ARRIVALS.get(name, 1))}
        arrivals[place(name)] = arrival._replace(**wrong)
    return objected(replace(run(), arrivals=arrivals))


def place(name: str) -> int:
    return PLACES.get(name, UNARY + 20 * (*RECORDS, *Arrival._fields).index(name))


@pytest.mark.parametrize("name", RECORDS)
def test_a_wrong_value_in_any_field_of_a_record_is_noticed(name: str) -> None:
    # Alone where a checker says it of another record.
    noticed = place(name) in with_wrong_records(*RECORDS) or bool(with_wrong_records(name))

    assert noticed is (name not in not_checked.OF_RECORDS)


@pytest.mark.parametrize("name", Arrival._fields)
def test_a_wrong_value_in_any_field_of_an_arrival_is_noticed(name: str) -> None:
    noticed = place(name) in with_wrong_arrivals(*Arrival._fields) or bool(with_wrong_arrivals(name))

    assert noticed is (name not in not_checked.OF_ARRIVALS)


def test_the_run_is_right_as_it_is_and_no_field_is_named_that_is_not_there() -> None:
    assert objected(run()) == set()
    assert not_checked.OF_RECORDS.keys() <= set(RECORDS)
    assert not_checked.OF_ARRIVALS.keys() <= set(Arrival._fields)


def test_what_the_driver_asks_is_known_of_every_api() -> None:
    assert plain_models.ASKED.keys() == APIS.keys()
    assert all(plain_models.payload_digest("", name, plain_models.payload_size(name, 400)) for name in APIS)


def test_an_answer_by_an_api_that_is_not_known_is_no_pass() -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["api"] = "search.v1"
    record = replace(make_record(0), items_digest="00")
    verdicts = check(make_evidence([record], table=table), [routing.CHECKER])
    assert [(each.outcome, "search.v1" in each.summary) for each in verdicts] == [(Outcome.UNKNOWN, True)]
