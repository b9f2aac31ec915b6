from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.checkers import RevisionInForce
from lab.checkers.revision_timeline import SETTLING_NS, RevisionTimeline
from tests.checkers.builders import make_record

if TYPE_CHECKING:
    from lab.history import Record

HOMEPAGE = frozenset({"homepage"})


def numbers(in_force: RevisionTimeline, record: Record) -> list[int]:
    return [rules.number for rules in in_force.during(record)]


def test_a_revision_counts_to_the_very_moment_at_which_it_begins_and_ends(document: dict[str, Any]) -> None:
    record = make_record()
    in_force = RevisionTimeline(
        [
            RevisionInForce(1, document, 0, record.sent_ns - 1),
            RevisionInForce(2, document, 0, record.sent_ns),
            RevisionInForce(3, document, record.done_ns),
            RevisionInForce(4, document, record.done_ns + 1),
        ]
    )

    assert numbers(in_force, record) == [2, 3]
    assert [rules.ended_before(record.sent_ns) for rules in in_force.rules] == [True, False, False, False]


def test_one_that_outlives_its_successor_is_still_found(document: dict[str, Any]) -> None:
    record = make_record()
    in_force = RevisionTimeline(
        [RevisionInForce(1, document, 0, record.sent_ns + 5), RevisionInForce(2, document, 1, record.sent_ns - 5)]
    )

    assert numbers(in_force, record) == [1]


def test_of_a_request_that_was_never_sent_nothing_was_in_force(document: dict[str, Any]) -> None:
    assert numbers(RevisionTimeline([RevisionInForce(1, document, 0)]), make_record(status="UNSENT")) == []


def test_a_staged_revision_is_in_force_for_its_callers_alone(
    document: dict[str, Any],
) -> None:
    at = [make_record(place * 1_000).sent_ns for place in range(5)]
    in_force = RevisionTimeline(
        [
            RevisionInForce(1, document, 0, at[3], 1),
            RevisionInForce(2, document, at[1] - SETTLING_NS - 2, at[2], at[1] - SETTLING_NS - 1, callers=HOMEPAGE),
            RevisionInForce(3, document, at[2], at[3], at[2], callers=HOMEPAGE | {"search"}),
            RevisionInForce(4, document, at[3] - 1, None, at[3]),
        ]
    )

    def seen(caller: str) -> list[list[int]]:
        return [numbers(in_force, make_record(place * 1_000, caller=caller)) for place in range(5)]

    assert seen("homepage") == [[1], [2], [2, 3], [3, 4], [4]]
    assert seen("playback") == [[1], [1], [1], [1, 4], [4]]
    assert seen("search") == [[1], [1], [1, 3], [3, 4], [4]]


def test_a_stage_that_failed_ends_nothing(document: dict[str, Any]) -> None:
    record = make_record(1_000)
    failed = RevisionInForce(2, document, 5, record.sent_ns - 1, callers=HOMEPAGE)
    assert numbers(RevisionTimeline([RevisionInForce(1, document, 0), failed]), record) == [1]
