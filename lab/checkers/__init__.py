"""Verdicts: pure functions from a run's evidence to valid, invalid or unknown. No I/O, no gRPC.

One module a checker, and an entry in :data:`CHECKERS`. What gathers the evidence lives in ``lab.load``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers import accounting, driver, routing, tear
from lab.checkers.evidence import Evidence, RevisionInForce
from lab.checkers.verdict import Outcome, Verdict, Violation, combine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHECKERS", "Evidence", "Outcome", "RevisionInForce", "Verdict", "Violation", "check", "combine"]

CHECKERS: Mapping[str, Callable[[Evidence], Verdict]] = {
    module.NAME: module.check for module in (accounting, driver, routing, tear)
}


def check(evidence: Evidence, checkers: Mapping[str, Callable[[Evidence], Verdict]] = CHECKERS) -> list[Verdict]:
    """Every checker's verdict. A checker that throws is unknown, never a pass."""
    return [_judged(name, checker, evidence) for name, checker in checkers.items()]


def _judged(name: str, checker: Callable[[Evidence], Verdict], evidence: Evidence) -> Verdict:
    try:
        return checker(evidence)
    except Exception as error:  # noqa: BLE001 (whatever it is, it must not look like a pass)
        return Verdict(name, Outcome.UNKNOWN, f"the checker failed: {type(error).__name__}: {error}")
