"""Did all drivers of a run do their shares, by one clock? If not, their records do not make up the planned run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from lab.checkers.evidence import Driver, Evidence

NAME = "drivers"

CLOCK_BOUND_MS = 10.0
"""How far a driver's times may be from the others': a tenth of the time for which a replaced revision may answer."""
SILENT_BOUND_S = 5.0
"""The longest time without a report, of which there is one a second."""


def check(evidence: Evidence) -> Verdict | None:
    """Looks at each driver's share, reports and clock. Never invalid.

    Returns:
        Unknown if a driver was lost or did not complete its share, was silent for longer than :data:`SILENT_BOUND_S`,
        or has a clock that is known less exactly than :data:`CLOCK_BOUND_MS`, drift included; the summary names it.
        None for a run of one driver.
    """
    if not evidence.drivers:
        return None
    doubts = [f"{each.name} {doubt}" for each in evidence.drivers if (doubt := _doubt(each))]
    ahead = [each.clock_ms for each in evidence.drivers if each.clock_ms is not None]
    measured = f"{len(evidence.drivers)} drivers"
    if ahead:
        apart_ms = max(0.0, *ahead) - min(0.0, *ahead)
        error_ms = max(each.clock_error_ms or 0.0 for each in evidence.drivers)
        drift_ms = max((abs(each.drift_ms) for each in evidence.drivers if each.drift_ms is not None), default=0.0)
        measured += f"; clocks {apart_ms:.2f} ms apart, known to {error_ms:.2f} ms, drift {drift_ms:.2f} ms"
    return Verdict(NAME, Outcome.UNKNOWN if doubts else Outcome.VALID, "; ".join([*doubts, measured]))


def _doubt(driver: Driver) -> str:
    if driver.problem:
        return driver.problem
    if driver.silent_s > SILENT_BOUND_S:
        return f"stalled: no report for {driver.silent_s:.1f} s"
    if driver.clock_error_ms is None or driver.drift_ms is None:
        return "did not say what time it is"
    if (error_ms := driver.clock_error_ms + abs(driver.drift_ms)) > CLOCK_BOUND_MS:
        return f"has a clock that may be {error_ms:.1f} ms off, {driver.drift_ms:+.1f} ms of it drift"
    return ""


def _absent(evidence: Evidence) -> bool:
    return not evidence.drivers


CHECKER = Checker(
    name=NAME,
    question="Did all drivers do their shares, by one clock?",
    blind=f"clocks that are less than {CLOCK_BOUND_MS:g} ms apart from what they are taken for",
    subject="several drivers",
    absent=_absent,
    check=check,
)
