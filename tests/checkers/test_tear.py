from __future__ import annotations

from lab.checkers.kinds import tear
from tests.checkers.builders import make_evidence, make_record


def test_keys_that_agree_with_who_answered_are_valid() -> None:
    verdict = tear.check(make_evidence([make_record(0), make_record(1, status="UNAVAILABLE")]))
    assert verdict.outcome == "valid"
    assert verdict.summary == "0 torn of 1 answers, 1 of which carry the routing key of their decision"


def test_a_key_that_names_another_model_is_a_tear() -> None:
    verdict = tear.check(make_evidence([make_record(0), make_record(1, routing_key="rows.v2")]))
    assert verdict.outcome == "invalid"
    assert [(violation.sequence, violation.message) for violation in verdict.violations] == [
        (1, "the routing key is rows.v2, but rows.v1 answered")
    ]


def test_answers_without_a_key_are_not_compared() -> None:
    verdict = tear.check(make_evidence([make_record(0, routing_key="", topology="gateway")]))
    assert verdict.outcome == "valid"
    assert verdict.summary == "0 torn of 1 answers, 0 of which carry the routing key of their decision"


def test_without_an_answer_of_a_model_nothing_is_known() -> None:
    assert tear.check(make_evidence([])).outcome == "unknown"
    records = [make_record(0, status="INTERNAL"), make_record(1, source="default", routing_key="rows.v2")]
    assert tear.check(make_evidence(records)).outcome == "unknown"


def test_a_fallback_s_answer_can_be_torn_too() -> None:
    torn = make_record(0, source="fallback", routing_key="rows.v2")
    assert tear.check(make_evidence([torn])).outcome == "invalid"
