"""Were shadow copies dropped only by units that had as many in flight as they may?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.kinds.shadow import tally_of
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "copies"

BOUND = 128
"""Copies that a unit may have in flight, see ``docs/route-table.md``; it drops more."""

RELEASED_NS = 250_000_000
"""Time after a copy's end at its model in which the unit that sent it has counted it out."""


def check(evidence: Evidence) -> Verdict | None:
    """Counts the copies in flight when one was dropped, by what models received.

    A copy is in flight at most from the sending of its request until :data:`RELEASED_NS` after its model had answered
    it. A unit can have dropped another only if at least :data:`BOUND` were in flight while the request was, or the
    bound of the table's circuit breaker.

    Returns:
        None if units say that they dropped none, or were not asked. Invalid with each lost copy for which fewer were in
        flight.
    """
    dropped = {unit: count for unit, count in (evidence.copies_dropped or {}).items() if count}
    if not dropped or evidence.copies is None:
        return None
    sent_ns = {record.request_id: record.sent_ns for record in evidence.records}
    copies = [each for each in evidence.arrivals or () if each.is_copy]
    began = sorted(min(each.arrived_ns, sent_ns.get(each.request_id, each.arrived_ns)) for each in copies)
    ended = sorted(each.ended_ns + RELEASED_NS for each in copies if each.ended_ns)
    lost = {each.request_id for its in tally_of(evidence).lost.values() for each in its}
    violations = []
    for record in evidence.records:
        if record.request_id not in lost:
            continue
        bound = min([BOUND, *(it for each in evidence.timeline.during(record) if (it := each.policy(record).bound))])
        in_flight = bisect_right(began, record.done_ns) - bisect_left(ended, record.sent_ns)
        if in_flight < bound:
            message = f"its copy was dropped with {in_flight} in flight at most; units may have {bound}"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    units = ", ".join(f"{count} by {unit}" for unit, count in dropped.items())
    summary = f"{len(lost)} copies of eligible requests are lost; dropped, with those of other requests: {units}"
    if violations:
        summary = f"{len(violations)} dropped below the bound; {summary}"
        return Verdict(NAME, Outcome.INVALID, summary, tuple(violations))
    return Verdict(NAME, Outcome.VALID, f"{summary}, all while at their bound")


CHECKER = Checker(
    name=NAME,
    question="Were shadow copies dropped only by units that had as many in flight as they may?",
    blind="drops that a unit does not report, which *shadow* sees as missing copies",
    subject="a copy that a unit says that it dropped",
    claim=Claim.AVAILABILITY,
    check=check,
)
