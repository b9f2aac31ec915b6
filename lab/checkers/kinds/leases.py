"""Did the caller ask its resolver as its topology does: each time, only where it had no lease, or never?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, RECOVERY_NS, prefix_of
from lab.checkers.revision_timeline import by_model, request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.checkers.revision_timeline import Rules
    from lab.history import Record
    from lab.history.questions import Questions

NAME = "leases"

ASKED_AGAIN = 0.25
"""Share of the requests with a lease that may ask all the same, as a late process loses the right to use its leases."""

LEAST = 20
"""Requests with a lease that are enough to judge."""

CAPACITY = 5_000
"""Leases of which a caller surely keeps all."""

_ANSWERED_NS = 100_000_000
"""Time in which a question is answered, and its lease kept; requests meanwhile may share the question."""

_SURELY = 0.9
TEAR = "FAILED_PRECONDITION"
_S = 1_000_000_000


class _Count(NamedTuple):
    """How many requests were judged, had a lease, and asked all the same."""

    judged: int
    leased: int
    again: int


def check(evidence: Evidence) -> Verdict | None:
    """Compares the questions that resolvers were asked with the requests that needed a decision.

    The resolver keeps the id of the request behind each question. Where a topology asks none, no request may have
    asked, and elsewhere none but the caller's own resolver. Without leases, each request that a model answered must
    have asked. With leases, its client must have asked for the same decision, at most as long ago as a lease may be
    used, and as many decisions may be without as were asked for requests that have no record; and at most
    :data:`ASKED_AGAIN` of the requests may ask though their client had asked within the lease's time.
    Not judged are requests during a publish or a marked fault, and those after a tear.

    Returns:
        None if the topology follows no rules, if it asks a role that keeps no questions, if there were fewer than
        :data:`LEAST` requests with a lease where it uses leases, if the resolver was lost to a marked fault, or if the
        run is of an earlier release, which has no such evidence. Invalid with any violation. Unknown if a resolver
        cannot say what it was asked.
    """
    can, questions = evidence.abilities, evidence.questions
    own = {name for role in can.asks for name in evidence.path_units.get(role, ())}
    if questions is None or not can.follows_rules or (can.asks and not own & questions.known_from_ns.keys()):
        return None
    asked = _Asked(questions, evidence.records)
    violations = [
        _violation(record, f"asked {name}, which its topology does not ask")
        for record in evidence.records
        for name in asked.resolvers.get(record.request_id, set()) - own
    ]
    summary = f"{len(evidence.records)} requests, {len(questions.asked)} questions"
    if can.asks and not violations:
        since_ns = _known_since(evidence, questions, own)
        if since_ns is None:
            # A fault of the caller may cut its own resolver off, too.
            if any(each.target in {*own, *can.asks, evidence.caller} for each in evidence.fault_windows):
                return None
            return Verdict(NAME, Outcome.UNKNOWN, "a resolver cannot say all that it was asked during the run")
        violations, count = _leased(evidence, asked) if can.leases else _unleased(evidence, asked, since_ns)
        if can.leases and not violations and count.leased < LEAST:
            return None
        summary = f"{summary}; {count.judged} judged"
        if can.leases:
            summary += f", and {count.again} of {count.leased} with a lease asked again"
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID if evidence.records else Outcome.UNKNOWN, summary)


def _known_since(evidence: Evidence, questions: Questions, own: Iterable[str]) -> int | None:
    """Returns since when these resolvers know all that they were asked; None if that is not enough to judge.

    A lease may be of any earlier request, so that where leases are used it must be all since the first.
    """
    since = [questions.known_from_ns.get(name) for name in own]
    known = [each for each in since if each is not None]
    sent_ns = [record.sent_ns for record in evidence.records if record.sent_ns]
    latest_allowed = min(sent_ns, default=0) if evidence.abilities.leases else max(sent_ns, default=0)
    return max(known) if len(known) == len(since) and max(known) <= latest_allowed else None


class _Asked:
    """The questions, by the request that needed the decision.

    Attributes:
        times_ns: when it asked.
        resolvers: which it asked.
        by_others: questions for requests that have no record, such as those with which a driver warms up.
    """

    def __init__(self, questions: Questions, records: Iterable[Record]) -> None:
        self.times_ns: defaultdict[str, list[int]] = defaultdict(list)
        self.resolvers: defaultdict[str, set[str]] = defaultdict(set)
        for each in questions.asked:
            if not each.request_id:  # a probe's; requests that were never sent have none, either
                continue
            self.times_ns[each.request_id].append(each.asked_ns)
            self.resolvers[each.request_id].add(each.resolver)
        own = {record.request_id for record in records}
        self.by_others = sum(name not in own for name in self.times_ns)


def _unleased(evidence: Evidence, asked: _Asked, since_ns: int) -> tuple[list[Violation], _Count]:
    judged = [record for record in evidence.records if by_model(record) and record.sent_ns >= since_ns]
    silent = [record for record in judged if record.request_id not in asked.times_ns]
    violations = [_violation(each, "was answered, and did not ask for a decision") for each in silent]
    return violations, _Count(len(judged), 0, 0)


def _leased(evidence: Evidence, asked: _Asked) -> tuple[list[Violation], _Count]:
    can = evidence.abilities
    lease_ns, usable_ns = round(can.lease_s * _S * _SURELY), round(max(can.lease_s, can.stale_s) * _S)
    earlier: defaultdict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    judged: list[tuple[Record, Rules, tuple[str, ...]]] = []
    for record in evidence.records:
        client, found = prefix_of(record.request_id), evidence.timeline.during(record)
        for each in found:
            times_ns = asked.times_ns.get(record.request_id, ())
            earlier[client, *each.unit(record)] += ((at_ns, each.number) for at_ns in times_ns)
        if len(found) == 1 and by_model(record) and not _disturbed(record, evidence):
            judged.append((record, found[0], (client, *found[0].unit(record))))
    for times in earlier.values():
        times.sort()
    unasked: defaultdict[tuple[str, ...], list[Record]] = defaultdict(list)
    leased = again = 0
    for record, rules, key in judged:
        before = [each for each in earlier.get(key, ()) if each[0] <= record.done_ns + CLOCKS_NS]
        if not any(at_ns >= record.sent_ns - usable_ns - RECOVERY_NS for at_ns, _ in before):
            unasked[key].append(record)
        fresh = any(
            record.sent_ns - lease_ns <= at_ns < record.sent_ns - _ANSWERED_NS and number == rules.number
            for at_ns, number in before
        )
        leased += fresh
        again += fresh and record.request_id in asked.times_ns
    violations = []
    if len(unasked) > asked.by_others:
        message = "was answered, and its client had not asked for this decision"
        violations += [_violation(record, message) for records in unasked.values() for record in records]
    if leased >= LEAST and again > ASKED_AGAIN * leased and len(earlier) <= CAPACITY:
        message = f"asked, as {again} of {leased} requests did whose client held a lease"
        violations.append(_violation(max((each for each, _, _ in judged), key=lambda each: each.sequence), message))
    return violations, _Count(len(judged), leased, again)


def _disturbed(record: Record, evidence: Evidence) -> bool:
    """Whether a fault, or a tear, may have ended the client's lease."""
    torn = any(each.status == TEAR for each in evidence.attempts.get(record.request_id, ()))
    return torn or any(each.met(record) for each in evidence.fault_windows)


def _violation(record: Record, message: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, f"{request(record)} {message}")


CHECKER = Checker(
    name=NAME,
    question="Did the caller ask its resolver as its topology does: each time, only without a lease, or never?",
    blind=f"up to {ASKED_AGAIN:.0%} of the requests that ask though they hold a lease, and requests during "
    "a publish or a fault",
    subject="20 requests that could use a lease, or a topology without leases",
    claim=Claim.CORRECTNESS,
    check=check,
)
