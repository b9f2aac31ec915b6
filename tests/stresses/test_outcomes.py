"""How a run under a stress is judged, by the verdicts of ``lab check``."""

from __future__ import annotations

from typing import Any

import pytest

from lab.checkers import CHECKERS
from tests.stresses.__main__ import UNKNOWN, VALID, outcome_of
from tests.stresses.kinds import STRESSES, Stress

NOTHING = Stress(lambda _: None)
RESTARTED = Stress(lambda _: None, {"delivery": "a replica was lost"})
LATE = Stress(lambda _: None, fails="too many requests")


def verdict(checker: str, outcome: str, claim: str = "correctness", **more: Any) -> dict[str, Any]:
    return {"checker": checker, "claim": claim, "outcome": outcome, "summary": "why", "violations": [], **more}


@pytest.mark.parametrize(
    ("stress", "verdicts", "outcome"),
    [
        (NOTHING, [verdict("routing", "valid"), verdict("driver", "unknown", "timing")], VALID),
        (NOTHING, [verdict("split", "unknown", open="few units")], VALID),
        (NOTHING, [verdict("delivery", "unknown")], "UNKNOWN: delivery: why"),
        (RESTARTED, [verdict("delivery", "unknown")], UNKNOWN),
        (RESTARTED, [verdict("delivery", "unknown"), verdict("path", "unknown")], "UNKNOWN: path: why"),
        (RESTARTED, [verdict("delivery", "invalid")], "INVALID: delivery: why"),
        (NOTHING, [verdict("answered", "invalid", "availability")], "INVALID: answered: why"),
        (LATE, [verdict("answered", "invalid", "availability")], VALID),
        (LATE, [verdict("routing", "invalid")], "INVALID: routing: why"),
    ],
)
def test_what_a_stress_names_beforehand_and_nothing_else_is_excused(
    stress: Stress, verdicts: list[dict[str, Any]], outcome: str
) -> None:
    assert outcome_of({"verdicts": verdicts}, stress) == outcome


def test_there_are_twelve_and_they_name_checkers_that_there_are() -> None:
    assert len(STRESSES) == 12
    named = {checker for stress in STRESSES.values() for checker in stress.destroys}
    assert named <= CHECKERS.keys()
