"""Is every planned request in the history exactly once, with possible times?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "accounting"


def check(evidence: Evidence) -> Verdict:
    """Compares the records with the plan.

    Returns:
        Invalid if the history contradicts itself: a request is recorded twice, was never planned, or has times that
        run backwards. Unknown if it is incomplete: records are missing, requests were not sent, or none was planned.
    """
    violations: list[Violation] = []
    sequences: set[int] = set()
    ids: set[str] = set()
    unsent = 0
    for record in evidence.records:
        unsent += record.status == UNSENT
        message = _objection(record, evidence, sequences, ids)
        sequences.add(record.sequence)
        ids.add(record.request_id)
        if message:
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if _scheduled(evidence):
        missing = evidence.planned - sum(1 for sequence in sequences if 0 <= sequence < evidence.planned)
        summary = f"{evidence.planned} planned, {len(evidence.records)} recorded"
    else:
        missing = max(0, evidence.planned - len(sequences))
        summary = f"{evidence.planned} came due, {len(evidence.records)} recorded"
    if missing:
        summary += f", {missing} missing"
    if unsent:
        summary += f", {unsent} not sent"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} contradictions; {summary}", tuple(violations))
    incomplete = missing or unsent or not evidence.planned
    return Verdict(NAME, Outcome.UNKNOWN if incomplete else Outcome.VALID, summary)


def _scheduled(evidence: Evidence) -> bool:
    """Whether the plan fixes the sequence numbers; otherwise they may have gaps."""
    return evidence.offered_rate is not None


def _objection(record: Record, evidence: Evidence, sequences: set[int], ids: set[str]) -> str:
    if _scheduled(evidence) and not 0 <= record.sequence < evidence.planned:
        return f"sequence {record.sequence} was not planned: the plan has 0 to {evidence.planned - 1}"
    if record.sequence in sequences:
        return f"sequence {record.sequence} is recorded twice"
    if record.request_id and record.request_id in ids:
        return f"request id {record.request_id} is used twice"
    return "" if record.status == UNSENT else _backwards(record)


def _backwards(record: Record) -> str:
    if record.sent_ns < record.intended_ns:
        return f"sent {record.intended_ns - record.sent_ns} ns before it was to be sent"
    if record.done_ns < record.sent_ns:
        return f"done {record.sent_ns - record.done_ns} ns before it was sent"
    return ""


CHECKER = Checker(
    name=NAME,
    question="Is every planned request in the history exactly once, with possible times?",
    claim=Claim.CORRECTNESS,
    check=check,
)
