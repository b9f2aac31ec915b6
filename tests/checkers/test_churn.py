from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import RevisionInForce
from lab.checkers.kinds import churn
from tests.checkers.builders import make_evidence, make_record, make_table, obey

if TYPE_CHECKING:
    from lab.checkers import Verdict


USERS = 1_000
V1: dict[str, Any] = {"version": "v1", "cluster": "v1", "routing_key": "rows.v1"}
V2: dict[str, Any] = {"version": "v2", "cluster": "v2", "routing_key": "rows.v2"}


def judge(*tables: dict[str, Any], changes: dict[int, dict[str, Any]] | None = None) -> Verdict | None:
    """Every user asks once under each table, and is answered as it wants; ``changes`` by sequence are exceptions."""
    records, revisions, start = [], [], 0
    for place, table in enumerate(tables):
        for number in range(place * USERS, (place + 1) * USERS):
            change = {"user_id": f"u{number % USERS}", **(changes or {}).get(number, {})}
            records.append(obey(table, number, **change))
        end = records[-1].done_ns if place + 1 < len(tables) else None
        revisions.append(RevisionInForce(place + 1, table, from_ns=start, until_ns=end))
        start = records[-1].done_ns + 1
    return churn.check(make_evidence(records, revisions=revisions))


def user_of(version: str, *tables: dict[str, Any], version_then: str) -> int:
    """The first user who gets one version by the first table, and another by the second."""
    got = ([obey(table, number) for number in range(USERS)] for table in tables)
    pairs = enumerate(zip(*got, strict=True))
    return next(number for number, (one, two) in pairs if (one.version, two.version) == (version, version_then))


@pytest.mark.parametrize(
    ("before", "after"), [((90, 10), (80, 20)), ((80, 20), (90, 10)), ((99, 1), (0, 100)), ((90, 10), (90, 10))]
)
def test_a_weight_that_changes_moves_its_users_and_no_others(before: tuple[int, int], after: tuple[int, int]) -> None:
    tables = [make_table(dict(zip(("rows@v1", "rows@v2"), weights, strict=True))) for weights in (before, after)]
    verdict = judge(*tables)
    assert verdict is not None
    assert verdict.outcome == "valid"
    ideal = abs(before[0] - after[0])
    assert f"revision 1 to 2, rule canary of Rows: {verdict.summary.split()[0]} of 1000 units" in verdict.summary
    assert f"for an ideal of {ideal}%" in verdict.summary


def test_a_ramp_is_judged_step_by_step() -> None:
    verdict = judge(*(make_table({"rows@v1": 100 - of_v2, "rows@v2": of_v2}) for of_v2 in (0, 1, 10, 50, 100)))
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.startswith("1000 moved of 4000 units")
    assert verdict.summary.endswith("; and 1 more")


def test_a_user_who_moved_though_the_tables_agree_is_named() -> None:
    tables = make_table(), make_table({"rows@v1": 80, "rows@v2": 20})
    user = user_of("v1", *tables, version_then="v1")
    verdict = judge(*tables, changes={USERS + user: V2})
    assert verdict is not None
    [violation] = verdict.violations
    assert (violation.sequence, violation.request_id) == (USERS + user, f"r{USERS + user}")
    assert violation.message == (
        f"moved: rows@v1 for request #{user} (r{user}) under revision 1, rows@v2 under revision 2; "
        "both tables want the same"
    )
    assert verdict.summary.startswith("1 wrongly; ")


def test_a_user_who_stayed_though_the_tables_differ_is_named() -> None:
    tables = make_table(), make_table({"rows@v1": 80, "rows@v2": 20})
    user = user_of("v1", *tables, version_then="v2")
    verdict = judge(*tables, changes={USERS + user: V1})
    assert verdict is not None
    [violation] = verdict.violations
    assert violation.sequence == USERS + user
    assert violation.message.startswith("did not move: rows@v1 for request")
    assert violation.message.endswith("the tables want first rows@v1, then rows@v2")


def test_two_users_who_change_places_are_both_seen() -> None:
    table = make_table()
    one, two = (user_of(version, table, table, version_then=version) for version in ("v1", "v2"))
    verdict = judge(table, table, changes={USERS + one: V2, USERS + two: V1})
    assert verdict is not None
    assert {violation.sequence for violation in verdict.violations} >= {USERS + one, USERS + two}


def test_arms_pushed_along_move_needlessly() -> None:
    """v3 grows at the cost of v1, and v2 lies between: who goes from v1 to v2 and from v2 to v3 need not have moved."""
    verdict = judge(
        make_table({"rows@v1": 60, "rows@v2": 20, "rows@v3": 20}),
        make_table({"rows@v1": 50, "rows@v2": 20, "rows@v3": 30}),
    )
    assert verdict is not None
    assert verdict.outcome == "invalid"
    needless = [one.message for one in verdict.violations if one.message.startswith("moved needlessly")]
    assert {one.split(" had to move ")[1] for one in needless} == {
        "from rows@v1 to rows@v2",
        "from rows@v2 to rows@v3",
    }


def test_neighbours_exchange_users_without_disturbing_others() -> None:
    verdict = judge(
        make_table({"rows@v1": 60, "rows@v2": 20, "rows@v3": 20}),
        make_table({"rows@v1": 50, "rows@v2": 30, "rows@v3": 20}),
    )
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_no_larger_share_moves_than_grows() -> None:
    """Each of these users has to move, by the tables, and moves the right way. But that they are all is impossible."""
    tables = make_table(), make_table({"rows@v1": 80, "rows@v2": 20})
    movers = [number for number in range(USERS) if [obey(table, number).version for table in tables] == ["v1", "v2"]][
        :50
    ]
    records = [
        make_record(place, user_id=f"u{number}", **change)
        for place, (number, change) in enumerate((number, change) for change in (V1, V2) for number in movers)
    ]
    change = records[50].intended_ns
    revisions = [RevisionInForce(1, tables[0], 0, change), RevisionInForce(2, tables[1], change)]
    verdict = churn.check(make_evidence(records, revisions=revisions))
    assert verdict is not None
    [violation] = verdict.violations
    assert violation.sequence == 50
    assert "50 of 50 units of user_id moved (100.00% for an ideal of 10%" in violation.message


def test_a_smaller_share_may_move_if_those_seen_had_to_stay() -> None:
    tables = make_table(), make_table({"rows@v1": 80, "rows@v2": 20})
    stay = [number for number in range(USERS) if len({obey(table, number).version for table in tables}) == 1]
    records = [
        obey(table, place * len(stay) + number, user_id=f"u{user}")
        for place, table in enumerate(tables)
        for number, user in enumerate(stay)
    ]
    change = records[len(stay)].intended_ns
    revisions = [RevisionInForce(1, tables[0], 0, change), RevisionInForce(2, tables[1], change)]
    verdict = churn.check(make_evidence(records, revisions=revisions))
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert "(0.00% for an ideal of 10%, 0.0 sigma above)" in verdict.summary


def test_while_two_revisions_are_in_force_nothing_counts() -> None:
    """u1 asks first while both are, and is answered by the new one; what it got under the old alone nobody knows."""
    tables = make_table({"rows@v1": 100, "rows@v2": 0}), make_table({"rows@v1": 0, "rows@v2": 100})
    users = [("u0", V1), ("u1", V2), ("u0", V2), ("u1", V2)]
    records = [make_record(number, user_id=user, **answer) for number, (user, answer) in enumerate(users)]
    revisions = [
        RevisionInForce(1, tables[0], 0, records[1].done_ns),
        RevisionInForce(2, tables[1], records[1].sent_ns),
    ]
    verdict = churn.check(make_evidence(records, revisions=revisions))
    assert verdict is not None
    assert (verdict.outcome, verdict.summary.split(";")[0]) == (
        "valid",
        "1 moved of 1 units answered under two revisions in a row",
    )


def test_a_draw_for_another_field_is_another_draw() -> None:
    tables = make_table(), make_table()
    tables[1]["use_cases"]["Rows"]["rules"][1]["split"]["unit"] = "country"
    verdict = judge(*tables)
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.endswith("units answered under two revisions in a row")


def test_another_experiment_draws_anew() -> None:
    """Not a change of weights, so nothing is minimal; each user still has to go where the table says."""
    cells = {"1": {"weight": 50, "use": "rows@v1"}, "2": {"weight": 50, "use": "rows@v2"}}
    tables = [
        make_table(rules=[{"name": "ab", "experiment": {"id": number, "unit": "user_id", "cells": cells}}])
        for number in (1, 2)
    ]
    verdict = judge(*tables)
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.endswith("units answered under two revisions in a row")
    # Cells of the same experiment that change places are no less than a needless move of everybody.
    swapped = copy.deepcopy(tables[0])
    arms = swapped["use_cases"]["Rows"]["rules"][0]["experiment"]["cells"]
    arms["1"]["use"], arms["2"]["use"] = "rows@v2", "rows@v1"
    verdict = judge(tables[0], swapped)
    assert verdict is not None
    assert len(verdict.violations) == USERS + 1  # and that so many did


def test_without_a_draw_a_changed_rule_moves_whom_it_means() -> None:
    tables = [make_table(rules=[], default=f"rows@{version}") for version in ("v1", "v2")]
    changes = {number: {"device": "web"} for number in range(2 * USERS)}
    verdict = judge(*tables, changes=changes)
    assert verdict is not None
    # Without rules all of a caller are one unit.
    assert (verdict.outcome, verdict.summary) == ("valid", "1 moved of 1 units answered under two revisions in a row")


def test_units_are_told_apart_by_what_either_table_reads() -> None:
    verdict = judge(make_table(rules=[]), make_table({"rows@v1": 50, "rows@v2": 50}))
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.endswith("moved of 1000 units answered under two revisions in a row")


@pytest.mark.parametrize("changes", [{"source": "fallback"}, {"source": "default"}, {"status": "UNAVAILABLE"}])
def test_only_answers_of_the_choice_count(changes: dict[str, Any]) -> None:
    table = make_table()
    other = {number: {"version": "v3", **changes} for number in range(USERS, USERS + 10)}
    verdict = judge(table, table, changes=other)
    assert verdict is not None
    assert (verdict.outcome, verdict.summary.split(";")[0]) == (
        "valid",
        "0 moved of 990 units answered under two revisions in a row",
    )


def test_users_seen_under_one_revision_only_show_nothing() -> None:
    table = make_table()
    verdict = judge(table, table, changes={number: {"user_id": f"v{number}"} for number in range(USERS)})
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_a_run_that_failed_as_a_whole_shows_nothing() -> None:
    table = make_table()
    verdict = judge(table, table, changes={number: {"status": "UNAVAILABLE"} for number in range(2 * USERS)})
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_under_one_revision_there_is_nothing_to_judge() -> None:
    assert judge(make_table()) is None
    assert churn.check(make_evidence([])) is None
    assert churn.check(make_evidence([make_record(0)], revisions=[])) is None
    record = make_record(0, **V1)
    # The second went out during the run, but never alone: it failed.
    failed = [
        RevisionInForce(1, make_table(), from_ns=0),
        RevisionInForce(2, make_table(), from_ns=record.sent_ns, until_ns=record.done_ns),
    ]
    assert churn.check(make_evidence([record, make_record(9, **V1)], revisions=failed)) is None
