"""Verdicts: pure functions from a run's evidence to valid, invalid or unknown. No I/O, no gRPC.

One module a checker, and an entry in :data:`CHECKERS`. What gathers the evidence lives in ``lab.runs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from lab.checkers import accounting, churn, driver, origin, routing, shadow, split, staleness, stickiness, tear
from lab.checkers.evidence import Evidence, RevisionInForce
from lab.checkers.verdict import Outcome, Verdict, Violation, combine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHECKERS", "Checker", "Evidence", "Outcome", "RevisionInForce", "Verdict", "Violation", "check", "combine"]

Checker: TypeAlias = "Callable[[Evidence], Verdict | None]"
"""Judges a run, or returns None if what it judges was not in the run at all: a split, a shadow, a change of rules.

None is for an absent subject only. A subject of which too little was seen is unknown.
"""

CHECKERS: Mapping[str, Checker] = {
    module.NAME: module.check
    for module in (accounting, driver, routing, tear, origin, split, stickiness, churn, shadow, staleness)
}
"""The catalogue. The first five have something to judge in every run, so no run is without a verdict."""


def check(evidence: Evidence, checkers: Mapping[str, Checker] = CHECKERS) -> list[Verdict]:
    """The verdicts of all checkers that have something to judge. One that throws is unknown, never a pass."""
    verdicts = (_judged(name, checker, evidence) for name, checker in checkers.items())
    return [verdict for verdict in verdicts if verdict is not None]


def _judged(name: str, checker: Checker, evidence: Evidence) -> Verdict | None:
    try:
        return checker(evidence)
    except Exception as error:  # noqa: BLE001 (whatever it is, it must not look like a pass)
        return Verdict(name, Outcome.UNKNOWN, f"the checker failed: {type(error).__name__}: {error}")
