"""Each answer brings the reports of its topology's path: the decision's key and revision, and the shadow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities
from lab.checkers.kinds import reported
from lab.topologies import TOPOLOGIES
from tests.checkers.builders import arrivals_of, copies_of, make_evidence, make_record

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history import Record

REPORTS = TOPOLOGIES["gateway"].reports


def judge(*records: Record, reports: frozenset[str] = REPORTS, **changes: Any) -> Verdict | None:
    return reported.check(make_evidence(records, abilities=Abilities(reports=reports), **changes))


def said(verdict: Verdict | None) -> tuple[str, list[str]]:
    return (verdict.outcome, [each.message for each in verdict.violations]) if verdict else ("nothing", [])


def test_answers_with_all_reports_are_valid() -> None:
    marked = make_record(1, shadow="rows.v9")
    assert said(judge(make_record(0), marked, copies=copies_of({"rows.v9": ["r1"]}))) == ("valid", [])


@pytest.mark.parametrize(
    ("lacks", "missing"),
    [
        ({"routing_key": ""}, "routing key"),
        ({"revision": 0}, "revision"),
        ({"routing_key": "", "revision": 0, "source": "fallback"}, "routing key and revision"),
    ],
)
def test_an_answer_without_key_or_revision_is_a_violation(lacks: dict[str, Any], missing: str) -> None:
    message = f"request #1 (r1) was answered without a report of its {missing}"
    assert said(judge(make_record(0), make_record(1, **lacks))) == ("invalid", [message])


def test_what_the_path_does_not_report_need_not_come() -> None:
    reports = TOPOLOGIES["direct"].reports
    assert said(judge(make_record(0, revision=0), reports=reports)) == ("valid", [])
    assert said(judge(make_record(0, routing_key=""), reports=reports))[0] == "invalid"
    assert said(judge(make_record(0, routing_key="", revision=0), reports=frozenset()))[0] == "nothing"


def test_a_copy_of_which_the_answer_says_nothing_is_a_violation() -> None:
    copies = copies_of({"rows.v9": ["r0"]})
    message = "a copy of request #0 (r0) came to rows.v9; the answer reports no shadow"
    assert said(judge(make_record(0), copies=copies)) == ("invalid", [message])
    assert said(judge(make_record(0, shadow="rows.v8"), copies=copies))[0] == "invalid"
    assert said(judge(make_record(0), copies=copies, reports=REPORTS - {"shadow"})) == ("valid", [])


def test_a_failure_of_a_model_brings_them_and_a_lost_connection_need_not() -> None:
    for status, expected in (("INTERNAL", "invalid"), ("UNAVAILABLE", "valid")):
        failed = make_record(1, status=status, revision=0)
        [arrival] = arrivals_of([make_record(1)])
        verdict = judge(make_record(0), failed, arrivals=[arrival._replace(status=status)])
        assert said(verdict)[0] == expected
    kept = replace(make_record(1, status="INTERNAL"), routing_key="rows.v1")
    assert said(judge(make_record(0), kept, arrivals=[arrival._replace(status="INTERNAL")]))[0] == "valid"


def test_nothing_answered_shows_nothing() -> None:
    assert said(judge(make_record(0, status="UNAVAILABLE"))) == ("unknown", [])
