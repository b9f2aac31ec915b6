"""Your own checker: did any request take longer than a user would wait?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers import Checker, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers import Evidence

LIMIT_MS = 1_000.0


def check(evidence: Evidence) -> Verdict:
    """Compares the time of each request, counted from when it was due, with :data:`LIMIT_MS`.

    Returns:
        Invalid if one took longer; unknown if there are no requests.
    """
    violations = []
    for record in evidence.records:
        took_ms = (record.done_ns - record.intended_ns) / 1e6
        if took_ms > LIMIT_MS:
            message = f"took {took_ms:.0f} ms; the limit is {LIMIT_MS:.0f} ms"
            violations.append(Violation("patience", record.sequence, record.request_id, message))
    if not evidence.records:
        return Verdict("patience", Outcome.UNKNOWN, "there are no requests")
    summary = f"{len(violations)} of {len(evidence.records)} took longer than {LIMIT_MS:.0f} ms"
    return Verdict("patience", Outcome.INVALID if violations else Outcome.VALID, summary, tuple(violations))


CHECKER = Checker(name="patience", question="Did any request take longer than a user would wait?", check=check)
