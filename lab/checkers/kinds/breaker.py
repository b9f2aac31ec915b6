"""Did circuit breakers let as many attempts through as the table says, no more and no less?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence
from lab.checkers.revision_timeline import Rules, request
from lab.checkers.verdict import Outcome, Verdict, Violation
from lab.checkers.version_path import LOST

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Policy
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "breaker"

RELEASE_NS = 50_000_000
"""Time by which a proxy may count an attempt out later than its caller has the answer."""

OTHERS_NS = 1_000_000_000
"""Time by which a request of others may have been in flight before and after a model had it."""

_REFUSED = "RESOURCE_EXHAUSTED"
_LEFT = LOST | {"DEADLINE_EXCEEDED"}  # a proxy counts it out before the model notices


class _Place(NamedTuple):
    """A version under one revision, and the bound of one limiter."""

    revision: int
    routing_key: str
    bound: int


def check(evidence: Evidence) -> Verdict | None:
    """Compares the attempts in flight at each version with ``breaker: {requests}``, revision by revision.

    - **Too many**: an attempt arrived while replicas had as many of the run's attempts as the bound allows all limiters
      together. Attempts whose caller has left count as ended. A fault of a unit between counts as one more limiter,
      as its count may begin at zero again.
    - **Too few**: a request was refused, or a fallback answered it, before it reached a replica of the chosen version,
      although fewer than the bound can have been in flight from its sending to its end. Judged where nothing but this
      bound can refuse it.

    Returns:
        None if no unit between caller and model has circuit breakers, or no request met one. Unknown if the replicas
        were not asked.
    """
    can = evidence.abilities
    judged = list(_under_bounds(evidence)) if can.breaks and can.between else []
    if not judged:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    violations = [*_too_many(judged, evidence), *_too_few(judged, evidence)]
    violations.sort(key=lambda one: one.sequence)
    refused = sum(record.status == _REFUSED for record, _, _ in judged)
    summary = f"{len(judged)} requests under circuit breakers, {refused} refused"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, summary)


def _under_bounds(evidence: Evidence) -> Iterator[tuple[Record, Rules, Policy]]:
    if not any("breaker" in rules.settings for rules in evidence.timeline.rules):
        return
    for record in evidence.records:
        rules = evidence.timeline.alone(record)
        if rules is not None and (policy := rules.policy(record)).bound:
            yield record, rules, policy


def _too_many(judged: Sequence[tuple[Record, Rules, Policy]], evidence: Evidence) -> Iterator[Violation]:
    can = evidence.abilities
    limiters = can.limiters + sum(each.role in can.between for each in evidence.fault_windows)
    attempts: defaultdict[_Place, list[tuple[Arrival, Record]]] = defaultdict(list)
    for record, rules, policy in judged:
        for each in evidence.attempts.get(record.request_id, ()):
            attempts[_Place(rules.number, each.routing_key, policy.bound)].append((each, record))
    for place, found in attempts.items():
        ends: list[int] = []
        for each, record in sorted(found, key=lambda one: one[0].arrived_ns):
            while ends and ends[0] <= each.arrived_ns:
                heappop(ends)
            if len(ends) >= place.bound * limiters:
                what = f"arrived while replicas had {len(ends)} attempts at {place.routing_key}"
                yield _violation(record, f"{what}; the circuit breaker's bound is {place.bound * limiters}")
            if each.status not in _LEFT:
                heappush(ends, min(each.ended_ns, record.done_ns) - CLOCKS_NS)


def _too_few(judged: Sequence[tuple[Record, Rules, Policy]], evidence: Evidence) -> Iterator[Violation]:
    if evidence.arrival_gaps:
        return
    refused = [each for each in judged if _was_refused(each[0], each[1], evidence)]
    in_flight = _InFlight({record.request_id for record, _, _ in refused}, evidence)
    can = evidence.abilities
    limits_tenants = can.limits_rates or can.limits_concurrency
    for record, rules, policy in refused:
        if policy.may_take_out or policy.may_queue:
            continue
        if limits_tenants and evidence.quota(rules, record.tenant) is not None:
            continue
        if any(each.closes and each.met(record) for each in evidence.fault_windows):
            continue
        beside = in_flight.during(record, rules.expected(record).routing_key)
        most = beside if policy.hedge_after_s is None else 2 * beside
        if most < policy.bound:
            what = f"was refused ({record.message[:80]!r})" if record.status == _REFUSED else "was left to a fallback"
            yield _violation(record, f"{what} with {most} attempts in flight at most; the bound is {policy.bound}")


class _InFlight:
    """The requests that may have been in flight at a version, as a limiter sees it; refused ones never were."""

    def __init__(self, refused: Collection[str], evidence: Evidence) -> None:
        self._began: defaultdict[str, list[int]] = defaultdict(list)
        self._ended: defaultdict[str, list[int]] = defaultdict(list)
        for record in evidence.records:
            rules = evidence.timeline.during(record) if record.request_id not in refused else []
            for key in {one.routing_key for each in rules for one in (each.expected(record), *each.fallbacks(record))}:
                self._began[key].append(record.sent_ns)
                self._ended[key].append(record.done_ns + RELEASE_NS)
        own = {record.request_id for record in evidence.records}
        for each in evidence.arrivals or ():
            if each.request_id not in own:
                self._began[each.routing_key].append(each.arrived_ns - OTHERS_NS)
                self._ended[each.routing_key].append(max(each.ended_ns, each.arrived_ns) + OTHERS_NS)
        for times in (*self._began.values(), *self._ended.values()):
            times.sort()

    def during(self, record: Record, key: str) -> int:
        """Returns the number of those at a version while this request was under way."""
        return bisect_right(self._began[key], record.done_ns) - bisect_left(self._ended[key], record.sent_ns)


def _was_refused(record: Record, rules: Rules, evidence: Evidence) -> bool:
    """Whether it ended, or went to a fallback, without an attempt at the chosen version."""
    chosen = rules.expected(record)
    if chosen.status != "OK" or (record.status != _REFUSED and record.source != "fallback"):
        return False
    return chosen.routing_key not in {each.routing_key for each in evidence.attempts.get(record.request_id, ())}


def _violation(record: Record, message: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, f"{request(record)} {message}")


CHECKER = Checker(
    name=NAME,
    question="Did circuit breakers let as many attempts through as the table says, no more and no less?",
    blind="bounds that are off by less than the limiters, clocks and other limits leave open",
    subject="a circuit breaker",
    check=check,
)
