from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import RevisionInForce
from lab.checkers.kinds import stickiness
from tests.checkers.builders import make_evidence, make_record, make_table, obey

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history import Record


V1: dict[str, Any] = {"version": "v1", "cluster": "v1", "routing_key": "rows.v1"}
V2: dict[str, Any] = {"version": "v2", "cluster": "v2", "routing_key": "rows.v2"}


def judge(records: list[Record], **entry: Any) -> Verdict | None:
    return stickiness.check(make_evidence(records, revisions=[RevisionInForce(1, make_table(**entry), from_ns=0)]))


def test_users_who_always_get_the_same_are_valid() -> None:
    table = make_table()
    verdict = judge([obey(table, number, user_id=f"u{number % 100}") for number in range(1_000)])
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary == "100 of 100 units were answered again, 900 times, always by the same version"


def test_one_flapping_user_is_named_with_both_answers() -> None:
    table = make_table()
    records = [obey(table, number, user_id=f"u{number % 100}") for number in range(1_000)]
    before = records[17]
    other = V2 if before.version == "v1" else V1
    records[517] = obey(table, 517, user_id="u17", **other)
    verdict = judge(records)
    assert verdict is not None
    [violation] = verdict.violations
    assert (violation.sequence, violation.request_id) == (517, "r517")
    assert violation.message == (
        f"Rows for caller homepage, device phone, user_id u17 got rows@{other['version']}, but rows@{before.version} "
        "for request #17 (r17), both under revision 1"
    )
    assert verdict.summary.startswith("1 by another version; 100 of 100 units")


def test_a_version_that_no_rule_allows_is_sticky_too() -> None:
    wrong = {"version": "v4", "cluster": "v4"}
    verdict = judge([make_record(number, user_id="u1", **wrong) for number in range(2)])
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_each_swap_of_a_user_with_another_is_seen() -> None:
    """u1 and u2 change places in the middle of the run, so that every share stays as it was."""
    versions = [V1, V2, V1, V2, V2, V1, V2, V1]
    records = [make_record(number, user_id=f"u{number % 2}", **each) for number, each in enumerate(versions)]
    verdict = judge(records)
    assert verdict is not None
    assert [violation.sequence for violation in verdict.violations] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "u2"},
        {"device": "web"},
        {"override": "rows@v2"},
        {"source": "fallback"},
        {"source": "default"},
        {"status": "UNAVAILABLE"},
    ],
)
def test_another_unit_or_no_answer_of_the_choice_may_differ(changes: dict[str, Any]) -> None:
    records = [make_record(number, user_id="u1", **V1) for number in range(2)]
    verdict = judge([*records, make_record(2, **{"user_id": "u1", **V2, **changes})])
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_only_those_who_come_to_the_draw_are_looked_at() -> None:
    """Televisions have a rule before it: that these flap is for the routing checker to say."""
    phones = [make_record(number, user_id="u1", **V1) for number in range(2)]
    televisions = [make_record(2 + number, user_id="u1", device="tv", **(V1, V2)[number]) for number in range(2)]
    verdict = judge([*phones, *televisions])
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_what_no_rule_reads_makes_no_other_unit() -> None:
    verdict = judge([make_record(0, user_id="u1", **V1), make_record(1, user_id="u1", country="US", **V2)])
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_an_experiment_sticks_as_well() -> None:
    cells = {"1": {"weight": 50, "use": "rows@v1"}, "2": {"weight": 50, "use": "rows@v2"}}
    rules = [{"name": "ab", "experiment": {"id": 1, "unit": "tenant", "cells": cells}}]
    verdict = judge([make_record(number, tenant="t", **(V1, V2)[number]) for number in range(2)], rules=rules)
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_under_another_revision_a_user_may_change() -> None:
    records = [make_record(number, user_id="u1", **(V1 if number < 5 else V2)) for number in range(10)]
    middle = records[5].intended_ns
    one = RevisionInForce(1, make_table(), from_ns=0, until_ns=middle)
    two = RevisionInForce(2, make_table(), from_ns=middle)
    verdict = stickiness.check(make_evidence(records, revisions=[one, two]))
    assert verdict is not None
    assert verdict.outcome == "valid"
    # While both are in force nobody can say under which an answer was given.
    overlapping = [one, RevisionInForce(2, make_table(), from_ns=0)]
    verdict = stickiness.check(make_evidence(records[4:6], revisions=overlapping))
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_if_nobody_comes_again_nothing_is_shown() -> None:
    verdict = judge([make_record(number, **V1) for number in range(100)])
    assert verdict is not None
    assert (verdict.outcome, verdict.violations) == ("unknown", ())


def test_a_run_that_failed_as_a_whole_shows_nothing() -> None:
    verdict = judge([make_record(number, user_id="u1", status="UNAVAILABLE") for number in range(100)])
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_a_run_without_a_draw_has_nothing_to_judge() -> None:
    records = [make_record(number, user_id="u1", device="tv", **(V1, V2)[number]) for number in range(2)]
    assert judge(records) is None  # televisions do not come to the split
    assert judge(records, rules=[]) is None
    assert judge([]) is None
    assert judge([make_record(0, status="UNSENT")]) is None
    assert stickiness.check(make_evidence([make_record(0)], revisions=[])) is None
