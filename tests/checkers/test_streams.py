"""The checker of requests that were sent as streams."""

from dataclasses import replace
from typing import Any

import pytest

from lab.checkers import Outcome
from lab.checkers.evidence import FaultWindow
from lab.checkers.kinds.answered import check as check_answered
from lab.checkers.kinds.streams import check
from lab.history import Record
from models.proto.serving.v1 import serving_pb2
from tests.checkers.builders import (
    START_NS,
    arrivals_of,
    best_first,
    items_of,
    make_evidence,
    make_record,
    two_versions,
)


def stream(sequence: int = 0, **changes: Any) -> Record:
    record = make_record(sequence, tenant="ads", **changes)
    return items_of(record, best_first(record))


def verdict_of(*records: Record) -> tuple[Outcome, str]:
    verdict = check(make_evidence(records))
    assert verdict is not None
    return verdict.outcome, "; ".join(each.message for each in verdict.violations)


def test_whole_streams_in_order_are_valid() -> None:
    assert verdict_of(stream(0), stream(1, device="tv", version="v2"), make_record(2)) == (Outcome.VALID, "")


def test_a_run_without_streams_has_no_verdict() -> None:
    assert check(make_evidence([make_record(0)])) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda items: items[:-1], "ended without an error, and without"),
        (lambda items: items[:0], "ended without an error, and without"),
        (lambda items: [*items[:4], *items[5:]], "ended without an error, and without"),
        (lambda items: [*items, items[-1]], "more than once"),
        (lambda items: [*items[:3], items[2], *items[4:]], "more than once"),
        (lambda items: [items[1], items[0], *items[2:]], "has the order"),
        (lambda items: items[::-1], "has the order"),
        (lambda items: [*items[:5], (items[5][0], 0.5), *items[6:]], "with another score"),
    ],
)
def test_a_stream_with_other_items_is_invalid(change: Any, says: str) -> None:
    record = stream()
    outcome, message = verdict_of(items_of(record, change(best_first(record))))
    assert (outcome, says in message) == (Outcome.INVALID, True), message


@pytest.mark.parametrize(
    "said",
    [
        {"version": "v2"},
        {"model": "up-next"},
        {"cluster": "b"},
        {"replica": "a-1"},
        {"revision": 2},
        {"tenant": "kids"},
        {"traffic_origin": serving_pb2.TRAFFIC_ORIGIN_ARTIFICIAL},
        {"received": b"x" * 24},
    ],
    ids=lambda said: str(*said),
)
def test_a_stream_whose_last_item_is_of_another_model_is_invalid(said: dict[str, Any]) -> None:
    record = stream()
    outcome, message = verdict_of(items_of(record, best_first(record), **said))
    assert (outcome, "with another score, version" in message) == (Outcome.INVALID, True)


def failed(began_with: list[str], sequence: int = 1) -> Record:
    record = make_record(sequence, status="UNAVAILABLE", message="connection reset")
    return replace(record, streamed=1, items=" ".join(began_with))


def test_a_stream_that_fails_may_be_short_and_not_wrong() -> None:
    of_v1, of_v2 = (
        [title for title, _ in best_first(make_record(1, device=device, version=version))]
        for device, version in (("phone", "v1"), ("tv", "v2"))
    )
    assert verdict_of(stream(), failed([]), failed(of_v1[:4], 1)) == (Outcome.VALID, "")
    for wrong in (of_v2[:4], of_v1[1:4], [*of_v1[:3], of_v1[2]]):
        outcome, message = verdict_of(stream(), failed(wrong))
        assert (outcome, "a stream that failed" in message) == (Outcome.INVALID, True)


def test_streams_of_which_none_was_answered_are_unknown() -> None:
    assert verdict_of(failed([])) == (Outcome.UNKNOWN, "")


@pytest.mark.parametrize(("began_with", "outcome"), [([], Outcome.INVALID), (["t01"], Outcome.VALID)])
def test_a_fallback_is_promised_to_a_stream_that_has_not_begun(began_with: list[str], outcome: Outcome) -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["fallback"] = ["rows@v2"]
    killed = FaultWindow("a-0 killed", "a-0", START_NS - 1, None)
    evidence = make_evidence([stream(), failed(began_with)], table=table, fault_windows=[killed])
    assert check_answered(evidence).outcome == outcome


@pytest.mark.parametrize(("first_item_ms", "wrong"), [(1, False), (-10, True), (500, True)])
def test_a_first_item_comes_after_its_request_reached_the_model_and_before_the_end(
    first_item_ms: float, *, wrong: bool
) -> None:
    record = replace(stream(), first_item_ns=round(first_item_ms * 1e6))
    record = replace(record, done_ns=record.sent_ns + 100_000_000)
    outcome, message = verdict_of(record)
    assert (outcome, "a stream's first item came" in message) == (Outcome.INVALID if wrong else Outcome.VALID, wrong)


@pytest.mark.parametrize("ahead_ms", [-4, 0, 4])
@pytest.mark.parametrize(("first_item_ms", "wrong"), [(0.000001, True), (1.5, False)])
def test_a_first_item_before_its_request_arrived_is_found_as_far_as_clocks_agree(
    first_item_ms: float, ahead_ms: float, *, wrong: bool
) -> None:
    on_the_way_ms = 1.0
    late_ns = round((on_the_way_ms + ahead_ms) * 1e6)
    records = [replace(stream(number), first_item_ns=round(first_item_ms * 1e6)) for number in range(20)]
    records = [replace(each, done_ns=each.sent_ns + 100_000_000) for each in records]
    arrivals = [each._replace(arrived_ns=each.arrived_ns + late_ns) for each in arrivals_of(records)]
    fastest = arrivals[0]._replace(arrived_ns=arrivals[0].arrived_ns - 500_000)

    verdict = check(make_evidence(records, arrivals=[fastest, *arrivals[1:]]))

    assert verdict is not None
    assert ("before its model had the request" in str(verdict.violations)) == (wrong and ahead_ms >= 0)
