from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import RevisionInForce
from lab.checkers.kinds import staleness
from tests.checkers.builders import make_evidence, make_record, make_table, obey

if TYPE_CHECKING:
    from lab.checkers import Evidence, Verdict


MS = 1_000_000
# Each request is sent a millisecond after the one before, and answered 0.4 ms after it was due.
GOES_OUT, CONVERGED, SETTLED = 100, 110, 120
RUN = 200


@pytest.fixture
def old() -> dict[str, Any]:
    return make_table({"rows@v1": 100, "rows@v2": 0})


@pytest.fixture
def new() -> dict[str, Any]:
    return make_table({"rows@v1": 0, "rows@v2": 100})


def run(
    old: dict[str, Any],
    new: dict[str, Any],
    changes: dict[int, dict[str, Any]] | None = None,
    *,
    last_old: int = 104,
) -> Evidence:
    """Requests before 105 follow the old table, later ones the new; ``changes`` by sequence are exceptions."""
    records = []
    for number in range(RUN):
        follows, revision = (old, 1) if number <= last_old else (new, 2)
        marks = {"revision": revision, "served_revision": revision}
        records.append(obey(follows, number, **{**marks, **(changes or {}).get(number, {})}))
    start = records[0].intended_ns
    revisions = [
        RevisionInForce(1, old, start - 500 * MS, start + SETTLED * MS, start - 400 * MS),
        RevisionInForce(2, new, start + GOES_OUT * MS, None, start + CONVERGED * MS),
    ]
    return make_evidence(records, revisions=revisions)


def judged(evidence: Evidence) -> Verdict:
    verdict = staleness.check(evidence)
    assert verdict is not None
    return verdict


def last_old_answer_ns(evidence: Evidence, revision: int) -> int | None:
    return staleness.last_old_answers_ns(evidence.timeline, evidence.records).get(revision)


OLD_ANSWER: dict[str, Any] = {"version": "v1", "cluster": "v1", "revision": 1, "served_revision": 1}


def test_answers_by_the_old_rules_until_all_have_settled_are_valid(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = judged(run(old, new, {SETTLED - 1: OLD_ANSWER}))
    assert verdict.outcome == "valid"
    assert verdict.summary == (
        "200 answers carry a revision; last answer by the old rules 19.4 ms after revision 2 began to go out, "
        "9.4 ms after it had converged (the slowest of 1)"
    )


def test_one_answer_by_the_old_rules_after_that_is_stale(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = judged(run(old, new, {150: OLD_ANSWER}))
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    assert (violation.sequence, violation.request_id) == (150, "r150")
    assert violation.message == (
        "decided by revision 1 30.0 ms after that had ended: version 'rows@v1', but 'rows@v2' by revision 2"
    )


def test_a_decision_may_be_stale_though_the_right_version_answered(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = judged(run(old, new, {150: {"revision": 1}}))
    assert [violation.sequence for violation in verdict.violations] == [150]


@pytest.mark.parametrize(
    "entry",
    [
        {"fallback": ["rows@v3"]},
        {"shadow": {"use": "rows@v3", "percent": 1}},
        {"timeout": "9s"},
    ],
)
def test_other_alternatives_another_shadow_or_timeout_are_another_decision(
    old: dict[str, Any], entry: dict[str, Any]
) -> None:
    new = make_table({"rows@v1": 100, "rows@v2": 0}, **entry)
    assert judged(run(old, new)).outcome == "valid"
    verdict = judged(run(old, new, {150: {"revision": 1}}))
    assert [violation.sequence for violation in verdict.violations] == [150]
    assert next(iter(entry))[:5] in verdict.violations[0].message.replace("alternatives", "fallback")


@pytest.mark.parametrize("place", ["version", "rule"])
def test_other_model_config_is_another_decision(old: dict[str, Any], place: str) -> None:
    new = copy.deepcopy(old)
    config = {"config": {"diversity": 0.5}}
    if place == "version":
        new["models"]["rows"]["versions"]["v1"] |= config
    else:
        new["use_cases"]["Rows"]["rules"][1] |= config
    verdict = judged(run(old, new, {150: {"revision": 1}}))
    assert [violation.sequence for violation in verdict.violations] == [150]
    assert "parameters {}, but {'diversity': 0.5} by revision 2" in verdict.violations[0].message


def test_an_older_number_alone_is_no_violation(old: dict[str, Any]) -> None:
    """A resolver keeps its revision if the next changes no rule: another use case's, or a move."""
    moved = copy.deepcopy(old)
    moved["use_cases"]["Other"] = {"callers": [], "default": "rows@v3"}
    moved["models"]["rows"]["versions"]["v1"]["cluster"] = "v4"
    verdict = judged(run(old, moved, {number: {"revision": 1} for number in range(105, RUN)}))
    assert verdict.outcome == "valid"


def test_a_replica_that_the_version_has_left_is_stale(old: dict[str, Any]) -> None:
    moved = copy.deepcopy(old)
    moved["models"]["rows"]["versions"]["v1"]["cluster"] = "v4"
    left = {"served_revision": 1, "cluster": "v1", "replica": "v1-0"}
    assert judged(run(old, moved, {SETTLED - 1: left})).outcome == "valid"
    verdict = judged(run(old, moved, {150: left}))
    [violation] = verdict.violations
    assert violation.message == (
        "v1-0 served rows@v1 under revision 1, which had ended; by revision 2 that version is not in v1"
    )


def test_a_replica_that_still_is_to_have_the_version_may_know_an_older_revision(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert judged(run(old, new, {150: {"served_revision": 1}})).outcome == "valid"


def test_a_revision_that_was_put_back_is_stale_though_its_number_is_higher(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    evidence = run(old, old)
    start = evidence.records[0].intended_ns
    failed = RevisionInForce(3, new, start + 20 * MS, start + 40 * MS)
    by_failed: dict[str, Any] = {"version": "v2", "cluster": "v2", "revision": 3}
    in_time, late = (
        [replace(one, **by_failed) if one.sequence == at else one for one in evidence.records] for at in (30, 50)
    )
    revisions = [*evidence.revisions, failed]
    assert judged(replace(evidence, records=in_time, revisions=revisions)).outcome == "valid"
    verdict = judged(replace(evidence, records=late, revisions=revisions))
    assert [violation.sequence for violation in verdict.violations] == [50]


def test_a_decision_that_any_revision_in_force_makes_too_is_not_stale(old: dict[str, Any], new: dict[str, Any]) -> None:
    """From v1 to v2 and back: the first decision is as good as the last."""
    evidence = run(old, new, {150: OLD_ANSWER})
    start = evidence.records[0].intended_ns
    back = RevisionInForce(3, old, start + 149 * MS)
    assert judged(replace(evidence, revisions=[*evidence.revisions, back])).outcome == "valid"


@pytest.mark.parametrize(
    "changes", [{"status": "UNAVAILABLE"}, {"source": "default"}, {"revision": 0}, {"revision": 9}]
)
def test_what_carries_no_known_revision_is_not_judged(
    old: dict[str, Any], new: dict[str, Any], changes: dict[str, Any]
) -> None:
    verdict = judged(run(old, new, {150: {**OLD_ANSWER, "served_revision": 2, **changes}}))
    assert verdict.outcome == "valid"


def test_a_fallback_is_judged_by_its_decision(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = judged(run(old, new, {150: {"source": "fallback", "revision": 1}}))
    assert [violation.sequence for violation in verdict.violations] == [150]


def test_a_run_that_failed_as_a_whole_shows_nothing(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = judged(run(old, new, {number: {"status": "UNAVAILABLE"} for number in range(RUN)}))
    assert (verdict.outcome, verdict.summary) == ("unknown", "0 answers carry a revision")


def test_before_a_revision_has_ended_there_is_nothing_to_judge(old: dict[str, Any], new: dict[str, Any]) -> None:
    evidence = run(old, new)
    assert staleness.check(replace(evidence, records=evidence.records[:SETTLED])) is None
    assert staleness.check(replace(evidence, records=[])) is None
    assert staleness.check(replace(evidence, revisions=[])) is None
    assert staleness.check(make_evidence([make_record(0)])) is None
    assert staleness.check(replace(evidence, records=[make_record(199, status="UNSENT")])) is None


def test_what_was_sent_before_the_end_and_answered_after_it_is_not_stale(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Sent 10 µs after it was due; the old revision ends between that and the answer."""
    evidence = run(old, new, {SETTLED: OLD_ANSWER})
    first, second = evidence.revisions
    sent, done = (getattr(evidence.records[SETTLED], each) for each in ("sent_ns", "done_ns"))
    for until, outcome in ((sent, "valid"), (done - 1, "valid"), (sent - 1, "invalid")):
        revisions = [replace(first, until_ns=until), second]
        assert judged(replace(evidence, revisions=revisions)).outcome == outcome


def test_a_decision_that_only_an_older_one_of_those_in_force_makes_is_not_stale(old: dict[str, Any]) -> None:
    """v1 has ended, v2 is in force, and a table of v3 is going out: who decided by the first decided as the second."""
    evidence = run(old, old, {150: {"revision": 1, "served_revision": 2}})
    start = evidence.records[0].intended_ns
    other = RevisionInForce(3, make_table({"rows@v3": 100}), start + 140 * MS)
    assert judged(replace(evidence, revisions=[*evidence.revisions, other])).outcome == "valid"


def test_a_replica_that_only_an_older_one_of_those_in_force_wants_is_not_stale(old: dict[str, Any]) -> None:
    """The version moves away while the first revision has ended, and the second, which has it there, has not."""
    evidence = run(old, old, {150: {"revision": 2, "served_revision": 1}})
    start = evidence.records[0].intended_ns
    moved = copy.deepcopy(old)
    moved["models"]["rows"]["versions"]["v1"]["cluster"] = "elsewhere"
    moved["clusters"]["elsewhere"] = {"replicas": 1}
    going_out = RevisionInForce(3, moved, start + 140 * MS)
    assert judged(replace(evidence, revisions=[*evidence.revisions, going_out])).outcome == "valid"


def test_another_shadow_is_no_other_decision_for_a_pinned_request(old: dict[str, Any]) -> None:
    """It gets no copy by either table."""
    tables = []
    for percent in (10, 20):
        table = copy.deepcopy(old)
        table["use_cases"]["Rows"] |= {"override": ["homepage"], "shadow": {"use": "rows@v4", "percent": percent}}
        tables.append(table)
    pinned = {"override": "rows@v1", "shadow": "", "revision": 1}
    assert judged(run(tables[0], tables[1], {150: pinned})).outcome == "valid"
    assert judged(run(tables[0], tables[1], {150: {"revision": 1}})).outcome == "invalid"


class TestLastOldAnswer:
    def test_an_answer_counts_that_was_under_way_when_the_revision_began_to_go_out(
        self, old: dict[str, Any], new: dict[str, Any]
    ) -> None:
        evidence = run(old, new, last_old=GOES_OUT)
        under_way = evidence.records[GOES_OUT]
        first, second = evidence.revisions
        moved = [first, replace(second, from_ns=under_way.sent_ns + 1)]
        assert last_old_answer_ns(replace(evidence, revisions=moved), 2) == under_way.done_ns

    def test_an_answer_that_neither_table_wants_tells_nothing(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        stray = {"version": "v3", "cluster": "v3"}
        evidence = run(old, new, dict.fromkeys(range(GOES_OUT, RUN), stray), last_old=GOES_OUT - 1)
        assert last_old_answer_ns(evidence, 2) is None

    def test_the_order_of_the_records_does_not_matter(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        evidence = run(old, new, {107: OLD_ANSWER})
        backwards = replace(evidence, records=evidence.records[::-1])
        assert last_old_answer_ns(backwards, 2) == evidence.records[107].done_ns

    def test_it_is_when_the_last_answer_came_that_followed_the_old_rules(
        self, old: dict[str, Any], new: dict[str, Any]
    ) -> None:
        evidence = run(old, new, {107: OLD_ANSWER})
        last = last_old_answer_ns(evidence, 2)
        assert last == evidence.records[107].done_ns

    def test_if_none_came_it_is_the_beginning(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        evidence = run(old, new, last_old=98)
        assert last_old_answer_ns(evidence, 2) == evidence.revisions[1].from_ns
        assert "none of 1 publishes was followed by an answer by the old rules" in judged(evidence).summary

    def test_answers_that_do_not_tell_the_tables_apart_say_nothing(self, old: dict[str, Any]) -> None:
        evidence = run(old, old)
        assert last_old_answer_ns(evidence, 2) is None
        assert judged(evidence).summary == "200 answers carry a revision"

    def test_a_move_counts_by_its_cluster(self, old: dict[str, Any]) -> None:
        moved = copy.deepcopy(old)
        moved["models"]["rows"]["versions"]["v1"]["cluster"] = "v4"
        evidence = run(old, moved)
        assert last_old_answer_ns(evidence, 2) == evidence.records[104].done_ns

    def test_there_and_back_each_counts_until_the_next_begins(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        evidence = run(old, new, dict.fromkeys(range(160, RUN), OLD_ANSWER))
        start = evidence.records[0].intended_ns
        first, second = evidence.revisions
        second = replace(second, until_ns=start + 190 * MS)
        back = RevisionInForce(3, old, start + 150 * MS, None, start + 165 * MS)
        evidence = replace(evidence, revisions=[back, first, second])
        assert last_old_answer_ns(evidence, 2) == evidence.records[104].done_ns
        assert last_old_answer_ns(evidence, 3) == evidence.records[159].done_ns
        assert judged(evidence).summary.endswith(
            "last answer by the old rules 9.4 ms after revision 3 began to go out, 5.6 ms before it had converged "
            "(the slowest of 2)"
        )

    def test_of_the_first_and_of_one_that_failed_there_is_none(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        evidence = run(old, new)
        failed = replace(evidence.revisions[1], converged_ns=None)
        assert last_old_answer_ns(evidence, 1) is None
        assert last_old_answer_ns(evidence, 9) is None
        assert last_old_answer_ns(replace(evidence, revisions=[evidence.revisions[0], failed]), 2) is None

    @pytest.mark.parametrize("changes", [{"source": "fallback"}, {"status": "UNAVAILABLE"}])
    def test_only_answers_of_the_choice_count(
        self, old: dict[str, Any], new: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        evidence = run(old, new, {115: {**OLD_ANSWER, **changes}})
        assert last_old_answer_ns(evidence, 2) == evidence.records[104].done_ns


def staged(old: dict[str, Any], new: dict[str, Any], callers: set[str], exception: dict[str, Any]) -> Verdict:
    """The same run, with the new table staged for these callers; request 150 is an exception."""
    evidence = run(old, new, {150: exception})
    first, second = evidence.revisions
    converged_ns = first.from_ns + 540 * MS
    revisions = [
        replace(first, until_ns=None),
        replace(second, callers=frozenset(callers), converged_ns=converged_ns),
    ]
    return judged(make_evidence(evidence.records, revisions=revisions))


def test_a_staged_revision_makes_the_one_for_all_stale_for_its_callers(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert staged(old, new, {"homepage"}, {}).outcome == "valid"
    verdict = staged(old, new, {"homepage"}, OLD_ANSWER)
    assert [each.request_id for each in verdict.violations] == ["r150"]


def test_an_answer_by_what_is_staged_for_others_is_stale(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = staged(old, new, {"search"}, {})
    assert verdict.outcome == "invalid"
    assert "decided by revision 2, which is for search" in verdict.violations[0].message
