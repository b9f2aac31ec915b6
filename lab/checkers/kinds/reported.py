"""Did the caller learn, with each answer, what the path of its topology reports?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import by_model, request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "reported"

_ALWAYS = ("routing_key", "revision")
_BY_MODELS = frozenset({"INTERNAL", "INVALID_ARGUMENT", "PERMISSION_DENIED", "FAILED_PRECONDITION"})
"""Statuses that a model gives; others may be of a connection or a deadline, of which no path reports anything."""


def check(evidence: Evidence) -> Verdict | None:
    """Looks, in each record, for what its topology reports by its own description.

    Each model's answer must bring the decision's routing key and revision, and so must each failure with a status that
    the model itself gave it. If a shadow received a copy of an answered request, the answer must name that shadow. The
    number of attempts is judged by *policy*, beside those that reached models.

    Returns:
        None if the topology reports nothing. Invalid if a report is missing. Unknown if no model answered.
    """
    reports = evidence.abilities.reports
    if not reports:
        return None
    violations: list[Violation] = []
    judged = 0
    for record in evidence.records:
        answered = by_model(record)
        if not answered and not _failed_by_model(record, evidence):
            continue
        judged += answered
        missing = [name.replace("_", " ") for name in _ALWAYS if name in reports and not getattr(record, name)]
        if missing:
            how = "was answered" if answered else f"failed with {record.status}"
            message = f"{request(record)} {how} without a report of its {' and '.join(missing)}"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
        if answered and "shadow" in reports:
            violations += (
                Violation(NAME, record.sequence, record.request_id, message)
                for message in _unreported_copies(record, evidence)
            )
    summary = f"{judged} answers should report {', '.join(sorted(name.replace('_', ' ') for name in reports))}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} reports are missing; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID if judged else Outcome.UNKNOWN, summary)


def _failed_by_model(record: Record, evidence: Evidence) -> bool:
    """Whether a request failed with the status that its last attempt at a model ended with."""
    if record.status not in _BY_MODELS:
        return False
    attempts = evidence.attempts.get(record.request_id, ())
    return bool(attempts) and max(attempts, key=lambda each: each.arrived_ns).status == record.status


def _unreported_copies(record: Record, evidence: Evidence) -> Iterator[str]:
    for key in dict.fromkeys(key for key, _ in evidence.copies_by_request.get(record.request_id, ())):
        if key != record.shadow:
            yield f"a copy of {request(record)} came to {key}; the answer reports {record.shadow or 'no shadow'}"


CHECKER = Checker(
    name=NAME,
    question="Did each answer report the decision and the shadow, where the topology's path reports them?",
    blind="whether what is reported is right, which *policy*, *shadow* and *staleness* judge",
    subject="a topology whose path reports something",
    claim=Claim.CORRECTNESS,
    check=check,
)
