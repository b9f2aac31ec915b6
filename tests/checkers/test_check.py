from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers import CHECKERS, Outcome, Verdict, check, combine

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.checkers import Evidence
    from lab.history import Record

    Make = Callable[..., Record]
    Prove = Callable[..., Evidence]


def test_a_good_run_is_valid_by_all_checkers(make_record: Make, make_evidence: Prove) -> None:
    verdicts = check(make_evidence([make_record(number) for number in range(200)]))
    assert ["accounting", "driver", "routing", "tear"] == list(CHECKERS) == [one.checker for one in verdicts]
    assert [one.outcome for one in verdicts] == [Outcome.VALID] * 4


def test_an_empty_run_is_unknown_by_all_checkers(make_evidence: Prove) -> None:
    assert [one.outcome for one in check(make_evidence([]))] == [Outcome.UNKNOWN] * 4


def test_one_misroute_makes_a_run_invalid(make_record: Make, make_evidence: Prove) -> None:
    records = [make_record(number) for number in range(200)]
    records[77] = make_record(77, cluster="b")
    verdicts = check(make_evidence(records))
    assert combine(verdicts) == "invalid"
    assert [violation.sequence for one in verdicts for violation in one.violations] == [77]


def test_a_checker_that_throws_is_unknown(make_record: Make, make_evidence: Prove) -> None:
    def throws(_: Evidence) -> Verdict:
        raise KeyError("gone")

    verdicts = check(make_evidence([make_record(0)]), {"throws": throws})
    assert [Verdict("throws", Outcome.UNKNOWN, "the checker failed: KeyError: 'gone'")] == verdicts


def test_a_document_that_cannot_be_read_is_unknown_not_valid(make_record: Make, make_evidence: Prove) -> None:
    evidence = make_evidence([make_record(number) for number in range(200)])
    evidence.revisions[0].document["models"].clear()
    assert combine(check(evidence)) == "unknown"
