from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers.kinds import tear

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.checkers import Evidence
    from lab.history import Record

    Make = Callable[..., Record]
    Prove = Callable[..., Evidence]


def test_keys_that_agree_with_who_answered_are_valid(make_record: Make, make_evidence: Prove) -> None:
    verdict = tear.check(make_evidence([make_record(0), make_record(1, status="UNAVAILABLE")]))
    assert verdict.outcome == "valid"
    assert verdict.summary == "0 torn of 1 answers, 1 of which carry the routing key of their decision"


def test_a_key_that_names_another_model_is_a_tear(make_record: Make, make_evidence: Prove) -> None:
    verdict = tear.check(make_evidence([make_record(0), make_record(1, routing_key="rows.v2")]))
    assert verdict.outcome == "invalid"
    assert [(violation.sequence, violation.message) for violation in verdict.violations] == [
        (1, "the routing key is rows.v2, but rows.v1 answered")
    ]


def test_answers_without_a_key_are_not_compared(make_record: Make, make_evidence: Prove) -> None:
    verdict = tear.check(make_evidence([make_record(0, routing_key="", topology="gateway")]))
    assert verdict.outcome == "valid"
    assert verdict.summary == "0 torn of 1 answers, 0 of which carry the routing key of their decision"


def test_without_an_answer_of_a_model_nothing_is_known(make_record: Make, make_evidence: Prove) -> None:
    assert tear.check(make_evidence([])).outcome == "unknown"
    records = [make_record(0, status="INTERNAL"), make_record(1, source="default", routing_key="rows.v2")]
    assert tear.check(make_evidence(records)).outcome == "unknown"


def test_a_fallback_s_answer_can_be_torn_too(make_record: Make, make_evidence: Prove) -> None:
    torn = make_record(0, source="fallback", routing_key="rows.v2")
    assert tear.check(make_evidence([torn])).outcome == "invalid"
