"""A checker of one's own: did anybody wait longer than a person would?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers import Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers import Evidence

NAME = "patience"
LIMIT_MS = 1_000.0


def check(evidence: Evidence) -> Verdict:
    """Compares how long each request took, counted from when it was due, with :data:`LIMIT_MS`.

    Returns:
        Invalid if anybody waited longer; unknown if nobody asked.
    """
    violations = []
    for record in evidence.records:
        took_ms = (record.done_ns - record.intended_ns) / 1e6
        if took_ms > LIMIT_MS:
            message = f"took {took_ms:.0f} ms, and patience ends at {LIMIT_MS:.0f}"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if not evidence.records:
        return Verdict(NAME, Outcome.UNKNOWN, "nobody asked, so nobody waited")
    summary = f"{len(violations)} of {len(evidence.records)} waited longer than {LIMIT_MS:.0f} ms"
    return Verdict(NAME, Outcome.INVALID if violations else Outcome.VALID, summary, tuple(violations))
