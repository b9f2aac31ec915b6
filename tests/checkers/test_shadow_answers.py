from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.checkers import RevisionInForce, Verdict
from lab.checkers.kinds import shadow_answers
from tests.checkers.builders import copy_arrivals_of, make_evidence, make_table, obey

TABLE = make_table(shadow={"use": "rows@v4", "percent": 100})
RECORDS = [obey(TABLE, number) for number in range(20)]
COPIES = copy_arrivals_of(RECORDS, "rows.v4")


def judge(**changes: Any) -> Verdict | None:
    """One copy of twenty differs so."""
    arrivals = [COPIES[0]._replace(**changes), *COPIES[1:]]
    revisions = [RevisionInForce(1, TABLE, from_ns=0)]
    return shadow_answers.check(make_evidence(RECORDS, revisions=revisions, arrivals=arrivals))


def test_right_answers_to_copies_are_compared_with_those_of_users() -> None:
    verdict = judge()
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert verdict.summary.startswith("20 copies were answered; Rows: another first item in 1")
    assert verdict.summary.endswith(" apart")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "0" * 16}, "another answer than it must give"),
        ({"answer": COPIES[1].answer}, "another answer than it must give"),
        ({"routing_key": "rows.v3"}, "another answer than it must give"),
        ({"answer": ""}, "an answer that it does not say"),
    ],
)
def test_a_wrong_answer_to_a_copy_is_a_violation(changes: dict[str, str], message: str) -> None:
    verdict = judge(**changes)
    assert verdict is not None
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    assert violation.request_id == RECORDS[0].request_id
    assert violation.message.endswith(message)


@pytest.mark.parametrize("changes", [{"status": "INTERNAL"}, {"status": ""}, {"is_copy": False}, {"request_id": "x"}])
def test_what_was_not_answered_is_not_judged(changes: dict[str, Any]) -> None:
    verdict = judge(answer="", **changes)
    assert verdict is not None
    assert (verdict.outcome, verdict.summary.partition(";")[0]) == ("valid", "19 copies were answered")


def test_runs_of_earlier_releases_do_not_say() -> None:
    arrivals = [each._replace(answer="?") for each in COPIES]
    evidence = make_evidence(RECORDS, revisions=[RevisionInForce(1, TABLE, from_ns=0)], arrivals=arrivals)
    assert shadow_answers.check(evidence) is None
    assert shadow_answers.check(replace(evidence, arrivals=None)) is None
