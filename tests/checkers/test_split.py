from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import RequestMix, RevisionInForce
from lab.checkers.kinds import split
from tests.checkers.builders import copies_of, make_evidence, make_record, make_table, obey

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history import Record


V2 = {"version": "v2", "cluster": "v2", "routing_key": "rows.v2"}


def counted(users: int, of_v2: int, weights: dict[str, int] | None = None, **changes: Any) -> Evidence:
    """As many users as are said got v2, the others v1; users u0, u1 … ask once each."""
    records = [
        make_record(number, **({"cluster": "v1", "score": 0.0} | (V2 if number < of_v2 else {}) | changes))
        for number in range(users)
    ]
    return make_evidence(records, revisions=[RevisionInForce(1, make_table(weights), from_ns=0)])


def test_what_the_rules_make_of_twenty_thousand_users_is_valid() -> None:
    table = make_table({"rows@v1": 80, "rows@v2": 15, "rows@v3": 5})
    evidence = make_evidence(
        [obey(table, number) for number in range(20_000)], revisions=[RevisionInForce(1, table, from_ns=0)]
    )
    verdict = split.check(evidence)
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.startswith("1 of 1 draws had enough units to judge; farthest off: rule canary of Rows, rev")


# 10 % of 10,000 users have a sigma of 30: 4.5 sigma are 135 users, 5.5 are 165.
@pytest.mark.parametrize(
    ("of_v2", "outcome"),
    [(1_000, "valid"), (1_135, "valid"), (865, "valid"), (1_165, "invalid"), (835, "invalid"), (0, "invalid")],
)
def test_a_share_may_be_off_by_five_sigma_and_no_more(of_v2: int, outcome: str) -> None:
    verdict = split.check(counted(10_000, of_v2))
    assert verdict is not None
    assert outcome == verdict.outcome


def test_a_violation_names_share_sigma_and_the_first_request_that_the_arm_answered() -> None:
    verdict = split.check(counted(1_000, 900))
    assert verdict is not None
    assert {(violation.sequence, violation.request_id) for violation in verdict.violations} == {
        (0, "r0"),
        (900, "r900"),
    }
    assert verdict.violations[0].message.startswith(
        "rule canary of Rows, revision 1: rows@v2 has 900 of 1000 units of user_id "
        "(90.00%, expected 10%: over 37 sigma off)"
    )
    assert verdict.summary.startswith("2 shares off by more than 5 sigma; 1 of 1 draws")


def test_users_count_once_however_often_they_ask() -> None:
    table = make_table()
    loud = next(f"u{number}" for number in range(1_000) if obey(table, number).version == "v2")
    records = [obey(table, number, user_id=f"u{number}" if number < 1_000 else loud) for number in range(3_000)]
    verdict = split.check(make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)]))
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert "of 1000 units" in verdict.summary


def test_answers_are_counted_and_not_decisions() -> None:
    verdict = split.check(counted(1_000, 0, routing_key="rows.v2"))
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_with_too_few_users_nothing_is_shown_unless_it_is_wrong_already() -> None:
    # Nobody of 143 users, or more, would be beyond 5 sigma of 10 %.
    for users, of_v2, outcome in ((142, 0, "unknown"), (143, 14, "valid"), (143, 0, "invalid"), (50, 40, "invalid")):
        verdict = split.check(counted(users, of_v2))
        assert verdict is not None
        assert (users, outcome) == (users, verdict.outcome)


def test_with_too_few_users_it_says_how_many_it_needs() -> None:
    small, large = split.check(counted(71, 7)), split.check(counted(143, 14))
    assert small is not None
    assert large is not None
    assert (small.is_open, large.is_open, large.too_few) == (True, False, None)
    assert small.too_few is not None
    assert small.too_few.what.startswith("too few users to judge the 10 % arm of rule ")
    assert small.too_few.what.endswith(": 71 of 143")
    assert small.too_few.times == pytest.approx(143 / 71)


def test_an_arm_without_weight_gets_nobody() -> None:
    weights = {"rows@v1": 100, "rows@v2": 0}
    verdicts = [split.check(counted(20, of_v2, weights)) for of_v2 in (0, 1)]
    assert [verdict and verdict.outcome for verdict in verdicts] == ["valid", "invalid"]


def test_a_version_that_is_no_arm_gets_nobody() -> None:
    good = counted(1_000, 100)
    stranger = make_record(0, version="v4", cluster="v4")
    verdict = split.check(replace(good, records=[stranger, *good.records[1:]]))
    assert verdict is not None
    assert [violation.sequence for violation in verdict.violations] == [0]
    assert (
        "rows@v4 has 1 of 1000 units of user_id (0.10%, expected 0%: over 37 sigma off)"
        in verdict.violations[0].message
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "UNAVAILABLE"},
        {"source": "fallback", **V2},
        {"source": "default", "model": "", "version": "", "cluster": ""},
    ],
)
def test_users_whose_arm_nobody_saw_may_have_been_of_any(changes: dict[str, Any]) -> None:
    """10 % of 2,000 users got v2; then some of these fail, all of them, and more than them."""
    whole = counted(2_000, 200)
    for failing, outcome in ((20, "valid"), (200, "unknown"), (1_000, "unknown")):
        failed = [make_record(number, **changes) for number in range(failing)]
        verdict = split.check(replace(whole, records=[*failed, *whole.records[failing:]]))
        assert verdict is not None
        assert outcome == verdict.outcome, failing
        assert f"{failing} that got no answer may be its own as well" in verdict.summary
        assert ("leave open whether 2 shares are within 5 sigma" in verdict.summary) == (outcome == "unknown")


def test_a_share_with_units_that_got_no_answer_is_a_range_and_never_contradicts_itself() -> None:
    """Of 782 users v1 may have had its half, or all of those that failed as well: what is seen decides nothing."""
    whole = counted(782, 391, {"rows@v1": 50, "rows@v2": 50})
    failed = [make_record(number, status="UNAVAILABLE") for number in range(150)]
    verdict = split.check(replace(whole, records=[*failed, *whole.records[150:]]))
    assert verdict is not None
    assert verdict.outcome == "unknown"
    assert verdict.summary == (
        "1 of 1 draws had enough units to judge; units without an answer leave open whether 2 shares are within "
        "5 sigma: rule canary of Rows, revision 1: rows@v1 has 391 of 782 units of user_id, and 150 that got no answer "
        "may be its own as well (50.00% to 69.18%, expected 50%: 0.0 to 10.8 sigma off)"
    )


def test_who_was_answered_once_counts_whatever_comes_later() -> None:
    whole = counted(1_000, 100)
    later = [make_record(number, user_id=f"u{number - 1_000}", status="UNAVAILABLE") for number in range(1_000, 2_000)]
    flapped = [make_record(number, user_id=f"u{number - 1_000}", **V2) for number in range(1_500, 2_000)]
    for more in (later, flapped):
        verdict = split.check(replace(whole, records=[*whole.records, *more]))
        assert verdict is not None
        assert verdict.outcome == "valid"
        # And whoever failed at first counts once answered.
        verdict = split.check(replace(whole, records=[*later, *whole.records]))
        assert verdict is not None
        assert "no answer" not in verdict.summary


def test_lost_users_excuse_no_more_than_they_are() -> None:
    whole = counted(2_000, 600)
    failed = [make_record(number, status="UNAVAILABLE") for number in range(100)]
    verdict = split.check(replace(whole, records=[*failed, *whole.records[100:]]))
    assert verdict is not None
    assert verdict.outcome == "invalid"
    assert (
        "rows@v1 has 1400 of 2000 units of user_id, and 100 that got no answer may be its own as well "
        "(70.00% to 75.00%, expected 90%: 19.2 to 24.8 sigma off)"
    ) in verdict.summary


def test_only_requests_that_come_to_the_rule_count() -> None:
    """Televisions get v3 by an earlier rule, pinned ones what they ask for, strangers nothing."""
    whole = counted(1_000, 100)
    others = [
        *(make_record(number, device="tv", version="v3", cluster="v3") for number in range(1_000, 2_000)),
        *(make_record(number, override="rows@v2", **V2) for number in range(2_000, 3_000)),
        *(make_record(number, caller="search", status="PERMISSION_DENIED") for number in range(3_000, 4_000)),
        *(make_record(number, user_id="", cluster="v1") for number in range(4_000, 5_000)),
    ]
    verdict = split.check(replace(whole, records=[*whole.records, *others]))
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert "of 1000 units" in verdict.summary


def test_cells_of_one_version_are_one_arm() -> None:
    cells = {
        "1": {"weight": 30, "use": "rows@v1"},
        "2": {"weight": 30, "use": "rows@v2"},
        "3": {"weight": 40, "use": "rows@v1", "config": {"diversity": 1}},
    }
    table = make_table(rules=[{"name": "ab", "experiment": {"id": 7, "unit": "user_id", "cells": cells}}])
    records = [obey(table, number) for number in range(2_000)]
    verdict = split.check(make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)]))
    assert verdict is not None
    assert verdict.outcome == "valid"
    # And the other way round, 30 % is not 70.
    cells["1"]["use"], cells["3"]["use"], cells["2"]["use"] = "rows@v2", "rows@v2", "rows@v1"
    verdict = split.check(make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)]))
    assert verdict is not None
    assert len(verdict.violations) == 2


class TestRevisions:
    """Two revisions, 90:10 and 50:50, and a time in which both are in force."""

    def evidence(self, records: list[Record], *, both: int) -> Evidence:
        change = records[len(records) // 2].sent_ns
        tables = (make_table(), make_table({"rows@v1": 50, "rows@v2": 50}))
        revisions = [
            RevisionInForce(1, tables[0], from_ns=0, until_ns=change + both),
            RevisionInForce(2, tables[1], from_ns=change - both),
        ]
        return make_evidence(records, revisions=revisions)

    def test_each_is_judged_by_its_own_time(self) -> None:
        tables = (make_table(), make_table({"rows@v1": 50, "rows@v2": 50}))
        good = [obey(tables[number // 2_000], number) for number in range(4_000)]
        verdict = split.check(self.evidence(good, both=100_000_000))
        assert verdict is not None
        assert verdict.outcome == "valid"
        assert verdict.summary.startswith("2 of 2 draws")
        swapped = [obey(tables[1 - number // 2_000], number) for number in range(4_000)]
        verdict = split.check(self.evidence(swapped, both=100_000_000))
        assert verdict is not None
        assert len(verdict.violations) == 4

    def test_while_both_are_in_force_nothing_counts(self) -> None:
        records = [obey(make_table({"rows@v1": 0, "rows@v2": 100}), number) for number in range(1_000)]
        verdict = split.check(self.evidence(records, both=10**15))
        assert verdict is not None
        assert (verdict.outcome, verdict.summary) == ("unknown", "0 of 0 draws had enough units to judge")

    def test_one_that_was_short_does_not_cost_the_others_their_verdict(self) -> None:
        table = make_table()
        records = [obey(table, number) for number in range(1_000)]
        revisions = [
            RevisionInForce(1, table, from_ns=0, until_ns=records[980].sent_ns),
            RevisionInForce(2, table, from_ns=records[980].sent_ns + 1),
        ]
        verdict = split.check(make_evidence(records, revisions=revisions))
        assert verdict is not None
        assert verdict.outcome == "valid"
        assert verdict.summary.startswith("1 of 2 draws")
        assert verdict.too_few is None


class TestShadow:
    """5 % of the requests are to be copied; copies count, wherever the mark was made."""

    def judged(self, records: list[Record], copied: int | None) -> Any:
        table = make_table(rules=[], shadow={"use": "rows@v3", "percent": 5})
        copies = None if copied is None else {"rows.v3": frozenset(f"r{number}" for number in range(copied))}
        evidence = make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)], copies=copies_of(copies))
        return split.check(evidence)

    def test_its_percent_is_a_share_of_the_requests(self) -> None:
        records = [make_record(number, user_id="u1", cluster="v1", score=0.0) for number in range(10_000)]
        # 5 % of 10,000 have a sigma of 21.8: 4.5 sigma are 98, 5.5 are 120.
        for copied, outcome in ((500, "valid"), (598, "valid"), (620, "invalid"), (380, "invalid")):
            assert self.judged(records, copied).outcome == outcome
        verdict = self.judged(records, 9_000)
        assert "copied to the shadow has 9000 of 10000 requests (90.00%, expected 5%" in verdict.violations[0].message

    def test_a_mark_counts_as_well(self) -> None:
        marked = [
            make_record(number, cluster="v1", shadow="rows.v3" if number < 500 else "") for number in range(10_000)
        ]
        assert self.judged(marked, 0).outcome == "valid"

    def test_pinned_requests_are_not_drawn(self) -> None:
        records = [
            make_record(number, cluster="v1", score=0.0, override="rows@v1" if number >= 1_000 else "")
            for number in range(2_000)
        ]
        assert "of 1000 requests" in self.judged(records, 50).summary

    def test_of_a_request_that_failed_no_copy_is_missed(self) -> None:
        states = ("OK", "UNAVAILABLE")
        records = [make_record(number, cluster="v1", status=states[number // 1_000]) for number in range(2_000)]
        assert "of 1000 requests" in self.judged(records, 50).summary

    def test_without_copies_nobody_knows(self) -> None:
        assert self.judged([make_record(0, cluster="v1")], None) is None


def test_a_run_without_a_draw_has_nothing_to_judge() -> None:
    assert split.check(make_evidence([make_record(0)])) is None
    assert split.check(counted(0, 0)) is None
    televisions = counted(50, 0, device="tv", version="v3")
    assert split.check(televisions) is None
    assert split.check(make_evidence([make_record(0, status="UNSENT")], revisions=televisions.revisions)) is None
    assert split.check(make_evidence([make_record(0)], revisions=[])) is None


def test_a_run_that_failed_as_a_whole_shows_nothing() -> None:
    verdict = split.check(counted(1_000, 0, status="UNAVAILABLE"))
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_users_that_were_chosen_for_their_buckets_do_not_count() -> None:
    table = make_table({"rows@v1": 50, "rows@v2": 50})
    users = iter(range(100_000))
    records = []
    for number in range(400):
        user = f"u{next(users)}"
        while number % 2 and obey(table, number, user_id=user).version != "v2":
            user = f"u{next(users)}"
        records.append(obey(table, number, user_id=user))
    request_mix = RequestMix(use_cases=["Rows"], caller="homepage", users=100_000, contexts={}, traffic_origin="real")
    chosen = replace(request_mix, edge_every=2, edge_cases=[("Rows", {"user_id": "u0"})])
    outcomes = [split.check(make_evidence(records, table=table, request_mix=each)) for each in (request_mix, chosen)]
    assert [each and str(each.outcome) for each in outcomes] == ["invalid", "valid"]
