"""Is every planned request in the history exactly once, with values that can be?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import prefix_of
from lab.checkers.plain import version_of
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "accounting"

_NS = 1e9
_USAGE = re.compile(r"\d+ \d+ \d+\.\d{3}")

LATE_S = 5.0
"""How much later than its timeout a request may end: a busy machine wakes the driver late."""

SLACK_NS = 1_000_000_000
"""How far outside the run's window a time may lie, as clocks are stepped during it."""

RECORDED_NS = 2_000_000_000
"""Time after a replica's answer in which a driver that goes on sending has recorded it."""

STATUSES = frozenset(
    (
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED", UNSENT),
    )
)
"""The statuses of gRPC, and that of a request that was never sent."""


def check(evidence: Evidence) -> Verdict:
    """Compares the records with the plan.

    Returns:
        Invalid if the history contradicts itself or the plan: a request is recorded twice or was never planned, has a
        status that gRPC does not have, times that run backwards, lie outside the run or are further apart than the
        timeout and :data:`LATE_S`, or a topology, caller or routing key that the run does not have; or if a replica
        received a request that has no record, though its driver recorded later ones. Unknown if it is
        incomplete: records are missing, none was planned, or requests were not sent though nobody stopped the driver
        before they were due.
    """
    violations: list[Violation] = []
    sequences: set[int] = set()
    ids: set[str] = set()
    unsent = 0
    keys = _Keys(evidence)
    for record in evidence.records:
        unsent += record.status == UNSENT
        message = _objection(record, evidence, sequences, ids) or _impossible(record, evidence, keys)
        sequences.add(record.sequence)
        ids.add(record.request_id)
        if message:
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    violations += _lost(evidence, ids)
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
    if unsent and _is_stopped(evidence):
        summary += f", as the run was stopped after {_seconds(evidence):.0f} s"
        unsent = 0
    incomplete = missing or unsent or not evidence.planned
    return Verdict(NAME, Outcome.UNKNOWN if incomplete else Outcome.VALID, summary)


def _is_stopped(evidence: Evidence) -> bool:
    """Whether all that was not sent was due after all that was, because the driver was stopped."""
    sent = (each.intended_ns for each in evidence.records if each.status != UNSENT)
    unsent = (each.intended_ns for each in evidence.records if each.status == UNSENT)
    last = max(sent, default=None)
    return evidence.stopped and last is not None and last <= min(unsent)


def _seconds(evidence: Evidence) -> float:
    """From the first request's time to the last one's that was sent."""
    due = [each.intended_ns for each in evidence.records if each.status != UNSENT]
    return (max(due) - min(due)) / 1e9 if due else 0.0


def _lost(evidence: Evidence, ids: set[str]) -> list[Violation]:
    """Returns the requests that replicas received, however they ended, and their driver has no record of.

    A driver that is killed loses the latest records alone, of all requests that it sends under one prefix.
    """
    latest: dict[str, int] = {}
    for record in evidence.records:
        prefix = prefix_of(record.request_id)
        latest[prefix] = max(record.sent_ns, latest.get(prefix, 0))
    violations = []
    for each in evidence.arrivals or ():
        prefix, number = prefix_of(each.request_id), each.request_id.rpartition("-")[2]
        if each.is_copy or each.request_id in ids or prefix not in latest:
            continue
        last_ns = each.ended_ns or each.arrived_ns
        if latest[prefix] > last_ns + RECORDED_NS:
            how = "answered it" if each.status == "OK" else f"received it ({each.status or 'under way'})"
            message = f"{each.replica} {how}, and it has no record"
            violations.append(Violation(NAME, _sequence(number), each.request_id, message))
    return violations


def _sequence(number: str) -> int:
    """Returns the sequence number in an id; -1 if there is none."""
    try:
        return int(number, 16)
    except ValueError:
        return -1


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
    return ""


class _Keys:
    """The routing keys of a run's tables; looks up each that a record names once."""

    def __init__(self, evidence: Evidence) -> None:
        # A table without models cannot be read, so nothing follows from it.
        self._models = [each.document["models"] for each in evidence.revisions if each.document["models"]]
        self._found: dict[str, bool] = {}

    def __contains__(self, key: str) -> bool:
        if key not in self._found:
            model, _, version = version_of(key).partition(".")
            known = (models.get(model, {"versions": {}})["versions"] for models in self._models)
            self._found[key] = not self._models or any(version in versions for versions in known)
        return self._found[key]


def _impossible(record: Record, evidence: Evidence, keys: _Keys) -> str:
    """Returns what cannot be of a record by itself, empty if nothing."""
    if record.status not in STATUSES:
        return f"status {record.status!r} is none of gRPC's"
    for name in ("topology", "caller"):
        planned, found = getattr(evidence, name), getattr(record, name)
        if planned and found != planned:
            return f"{name} {found!r}, and the plan has {planned!r} alone"
    if record.routing_key and record.routing_key not in keys:
        return f"routing key {record.routing_key!r} is in none of the run's tables"
    return _impossible_answer(record) or ("" if record.status == UNSENT else _impossible_times(record, evidence))


def _impossible_answer(record: Record) -> str:
    if not record.streamed and (record.items or record.first_item_ns):
        return "it was no stream, and has items of one"
    if record.usage and not _USAGE.fullmatch(record.usage):
        return f"its model claims {record.usage!r}, which is not two numbers of tokens and a time"
    if record.first_item_ns > max(record.done_ns - record.sent_ns, 0):
        return f"its first item came {record.first_item_ns} ns after it was sent, and its end before"
    return ""


def _impossible_times(record: Record, evidence: Evidence) -> str:
    if record.sent_ns < record.intended_ns:
        return f"sent {record.intended_ns - record.sent_ns} ns before it was to be sent"
    if record.done_ns < record.sent_ns:
        return f"done {record.sent_ns - record.done_ns} ns before it was sent"
    took_s = (record.done_ns - record.sent_ns) / _NS
    if evidence.timeout_s is not None and took_s > evidence.timeout_s + LATE_S:
        return f"took {took_s:.1f} s, with a timeout of {evidence.timeout_s:g} s"
    if evidence.window_ns is not None:
        began_ns, ended_ns = evidence.window_ns
        if record.sent_ns < began_ns - SLACK_NS:
            return f"sent {(began_ns - record.sent_ns) / _NS:.1f} s before the run began"
        if record.done_ns > ended_ns + SLACK_NS:
            return f"done {(record.done_ns - ended_ns) / _NS:.1f} s after the run had ended"
    return ""


CHECKER = Checker(
    name=NAME,
    question="Is every planned request in the history exactly once, with values that can be?",
    blind=f"what a driver that was killed sent in its last {RECORDED_NS // 1_000_000_000} s",
    claim=Claim.CORRECTNESS,
    check=check,
)
