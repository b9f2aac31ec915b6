from __future__ import annotations

from typing import Any

import pytest

from lab.checkers import Outcome
from lab.checkers.kinds.origin import check
from lab.history import NONE_SEEN
from tests.checkers.builders import make_evidence, make_record


def test_answers_whose_models_saw_what_was_sent_are_valid() -> None:
    sent = [
        make_record(0),
        make_record(1, traffic_origin="artificial", seen_origin="artificial", tenant="ads"),
        make_record(2, traffic_origin="", seen_origin=NONE_SEEN),
        make_record(3, source="fallback"),
    ]

    verdict = check(make_evidence(sent))

    assert (verdict.outcome, verdict.violations) == (Outcome.VALID, ())
    assert "artificial 1 times, none 1 times, real 2 times" in verdict.summary


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"traffic_origin": "artificial"}, "sent as artificial traffic, and rows@v1 at a-0 saw real"),
        ({"seen_origin": "artificial"}, "sent as real traffic, and rows@v1 at a-0 saw artificial"),
        ({"seen_origin": NONE_SEEN}, "sent as real traffic, and rows@v1 at a-0 saw none"),
        ({"traffic_origin": ""}, "sent as none traffic, and rows@v1 at a-0 saw real"),
        ({"tenant": "ads", "seen_tenant": ""}, "sent for tenant 'ads', and rows@v1 at a-0 saw ''"),
        ({"tenant": "ads", "seen_tenant": "kids"}, "sent for tenant 'ads', and rows@v1 at a-0 saw 'kids'"),
        ({"seen_tenant": "kids"}, "sent for tenant '', and rows@v1 at a-0 saw 'kids'"),
        ({"source": "fallback", "seen_origin": "artificial"}, "saw artificial"),
    ],
)
def test_an_origin_or_a_tenant_that_was_lost_or_changed_on_the_way_is_found(wrong: dict[str, Any], words: str) -> None:
    verdict = check(make_evidence([make_record(0), make_record(1, **wrong), make_record(2)]))

    assert verdict.outcome is Outcome.INVALID
    assert [violation.sequence for violation in verdict.violations] == [1]
    assert words in verdict.violations[0].message


def test_models_that_do_not_say_what_they_saw_leave_it_unknown() -> None:
    silent = make_record(0, seen_origin="")

    assert check(make_evidence([silent])).outcome is Outcome.UNKNOWN
    assert check(make_evidence([silent, make_record(1)])).outcome is Outcome.UNKNOWN


def test_without_an_answer_of_a_model_nothing_is_shown() -> None:
    nobody = [make_record(0, status="UNAVAILABLE"), make_record(1, source="default", model="", seen_origin="")]

    assert check(make_evidence(nobody)).outcome is Outcome.UNKNOWN
    assert check(make_evidence([])).outcome is Outcome.UNKNOWN
