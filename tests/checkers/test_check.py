from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.checkers import (
    CHECKERS,
    Abilities,
    Checker,
    Claim,
    FaultWindow,
    Outcome,
    Verdict,
    by_claim,
    check,
    combine,
    silent,
)
from tests.checkers.builders import (
    make_evidence,
    make_record,
)
from tests.checkers.whole_run import whole_run

if TYPE_CHECKING:
    from lab.checkers import Evidence


ALWAYS = [checker.name for checker in CHECKERS.values() if not checker.subject]
ABSENT = Checker(name="absent", question="Is it there?", subject="nothing", check=lambda _: None)


def test_a_good_run_is_valid_by_all_checkers() -> None:
    verdicts = check(make_evidence([make_record(number) for number in range(200)]))
    assert [one.checker for one in verdicts] == [*ALWAYS, "times"]
    assert {one.outcome for one in verdicts} == {Outcome.VALID}


def test_an_empty_run_is_unknown_by_all_checkers() -> None:
    assert [one.outcome for one in check(make_evidence([]))] == [Outcome.UNKNOWN] * len(ALWAYS)


def test_a_run_with_every_subject_is_judged_by_every_checker() -> None:
    evidence = whole_run()
    verdicts = check(evidence)
    own = [name for name, each in CHECKERS.items() if each.check.__module__.startswith("lab.checkers.")]
    assert [one.checker for one in verdicts] == own
    assert {one.checker: one.outcome for one in verdicts} == dict.fromkeys(own, Outcome.VALID)
    # Of each subject that is there, too little evidence makes the run unknown.
    assert combine(check(replace(evidence, copies=None))) == "unknown"
    # Nothing follows from revisions that are not known: neither that answers are right nor that they are wrong.
    unknown = check(replace(evidence, revisions=(), missing="the control plane was down"))
    assert {one.outcome for one in unknown if one.claim is not Claim.TIMING} == {Outcome.UNKNOWN}
    assert all(one.summary.startswith("the control plane was down") for one in unknown if one.claim is not Claim.TIMING)
    assert {one.outcome for one in unknown if one.claim is Claim.TIMING} == {Outcome.VALID}


def test_what_has_no_subject_is_left_out_and_nothing_at_all_is_unknown() -> None:
    assert check(make_evidence([]), [ABSENT]) == []
    assert combine(check(make_evidence([]), [ABSENT])) == "unknown"


class TestExpectedEvidence:
    """What topology, lab and options declare must be there, or the checker says that it is not."""

    GOOD = make_evidence([make_record(number) for number in range(2_000)])

    @pytest.mark.parametrize("name", ["announced", "asked", "convergence", "drivers", "streams", "table"])
    def test_evidence_that_a_run_should_have_and_has_not_is_unknown(self, name: str) -> None:
        assert name not in [each.checker for each in check(self.GOOD)]

        [verdict] = [each for each in check(replace(self.GOOD, expected={name: "declared"})) if each.checker == name]
        assert (verdict.outcome, verdict.summary) == ("unknown", "declared, but there is no evidence to judge")

    def test_evidence_of_the_path_and_of_the_replicas_times_too(self) -> None:
        unmarked = [each._replace(via="?", status="", ended_ns=0) for each in self.GOOD.arrivals or ()]
        evidence = replace(self.GOOD, arrivals=unmarked, abilities=Abilities(between=("sidecar",), marks_path=True))
        assert {"path", "times"}.isdisjoint(each.checker for each in check(evidence))
        found = {each.checker: each.outcome for each in check(replace(evidence, expected={"path": "x", "times": "x"}))}
        assert (found["path"], found["times"]) == ("unknown", "unknown")

    def test_a_fault_of_the_resolver_explains_that_it_answered_no_probe(self) -> None:
        paused = FaultWindow("homepage-resolver paused", "homepage-resolver", 0, None, role="resolver")
        evidence = replace(self.GOOD, expected={"convergence": "declared"}, fault_windows=[paused])
        assert "convergence" not in [each.checker for each in check(evidence)]

    def test_a_checker_that_is_not_here_is_unknown(self) -> None:
        *_, verdict = check(replace(self.GOOD, expected={"strange": "declared"}))
        assert (verdict.checker, verdict.outcome) == ("strange", "unknown")
        assert verdict.summary == "declared, but there is no such checker here"

    def test_the_others_are_listed_with_what_the_run_lacks(self) -> None:
        found = silent(check(self.GOOD))
        assert found["drivers"] == "several drivers"
        assert found.keys().isdisjoint(ALWAYS)


def test_a_checker_of_every_run_that_gives_no_verdict_is_unknown() -> None:
    (verdict,) = check(make_evidence([]), [replace(ABSENT, subject="")])
    assert verdict.outcome == Outcome.UNKNOWN


def test_one_misroute_makes_a_run_invalid() -> None:
    records = [make_record(number) for number in range(200)]
    records[77] = make_record(77, cluster="b")
    verdicts = check(make_evidence(records))
    assert combine(verdicts) == "invalid"
    assert [violation.sequence for one in verdicts for violation in one.violations] == [77]


def test_a_checker_that_throws_is_unknown() -> None:
    def throws(_: Evidence) -> Verdict:
        raise KeyError("gone")

    verdicts = check(make_evidence([make_record(0)]), [Checker(name="throws", question="Does it?", check=throws)])
    assert verdicts == [Verdict("throws", Outcome.UNKNOWN, "the checker failed: KeyError: 'gone'")]


def test_a_document_that_cannot_be_read_is_unknown_not_valid() -> None:
    evidence = make_evidence([make_record(number) for number in range(200)])
    evidence.revisions[0].document["models"].clear()
    assert combine(check(evidence)) == "unknown"


def test_a_late_driver_spoils_timing_and_a_failure_availability() -> None:
    records = [make_record(number) for number in range(200)]
    late = [
        replace(record, sent_ns=record.sent_ns + 20_000_000, done_ns=record.done_ns + 20_000_000) for record in records
    ]
    assert by_claim(check(make_evidence(late))) == {
        Claim.CORRECTNESS: Outcome.VALID,
        Claim.AVAILABILITY: Outcome.VALID,
        Claim.TIMING: Outcome.UNKNOWN,
    }
    failed = [*records[:199], make_record(199, status="UNAVAILABLE")]
    assert by_claim(check(make_evidence(failed))) == {
        Claim.CORRECTNESS: Outcome.VALID,
        Claim.AVAILABILITY: Outcome.INVALID,
        Claim.TIMING: Outcome.VALID,
    }


def test_verdicts_carry_the_claim_of_their_checker() -> None:
    (verdict,) = check(make_evidence([]), [replace(ABSENT, subject="", claim=Claim.TIMING)])
    assert verdict.claim == Claim.TIMING


def test_every_checker_says_what_it_cannot_see() -> None:
    assert [name for name, each in CHECKERS.items() if not each.blind] == []
