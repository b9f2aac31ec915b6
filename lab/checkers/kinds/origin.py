"""Did the models see the traffic origin and the tenant that were sent?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import by_model
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import NONE_SEEN, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "origin"


def check(evidence: Evidence) -> Verdict:
    """Compares origin and tenant as sent with those that the model reports in its answer.

    A proxy that rebuilds requests may lose either without any failure: the model then serves artificial traffic with
    the priority of real users, or a tenant without a name.

    Returns:
        Invalid if any model saw something else, or nothing. Unknown if no model answered, or if some do not report
        what they saw, as servers other than the lab's stub may not.
    """
    silent = 0
    seen: Counter[str] = Counter()
    lost: list[Violation] = []
    for record in evidence.records:
        if not by_model(record):
            continue
        if not record.seen_origin:
            silent += 1
            continue
        seen[record.seen_origin] += 1
        if message := _objection(record):
            lost.append(Violation(NAME, record.sequence, record.request_id, message))
    if not seen:
        reason = f"none of {silent} answers says what the model saw" if silent else "no model answered"
        return Verdict(NAME, Outcome.UNKNOWN, f"{reason}, so nothing is shown")
    summary = f"models saw {', '.join(f'{origin} {count} times' for origin, count in sorted(seen.items()))}"
    if lost:
        return Verdict(NAME, Outcome.INVALID, f"{len(lost)} not as they were sent; {summary}", tuple(lost))
    if silent:
        return Verdict(NAME, Outcome.UNKNOWN, f"{summary}; {silent} answers do not say what the model saw")
    return Verdict(NAME, Outcome.VALID, f"{summary}, each as it was sent, and with its tenant")


def _objection(record: Record) -> str:
    """Returns the objection to a record, empty if there is none."""
    who = f"{record.model}@{record.version} at {record.replica}"
    sent = record.traffic_origin or NONE_SEEN
    if record.seen_origin != sent:
        return f"sent as {sent} traffic, and {who} saw {record.seen_origin}"
    if record.seen_tenant != record.tenant:
        return f"sent for tenant {record.tenant!r}, and {who} saw {record.seen_tenant!r}"
    return ""


CHECKER = Checker(
    name=NAME,
    question="Did the models see the traffic origin and the tenant that were sent?",
    blind="the origin and tenant of copies, and of requests that no model answered",
    claim=Claim.CORRECTNESS,
    check=check,
)
