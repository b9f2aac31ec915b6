"""Did each request reach models as often, in the order and in the time that the table allows?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from math import floor
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, cluster_of
from lab.checkers.plain_policy import FALLS_BACK
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lab.checkers.evidence import Disturbance, Evidence
    from lab.checkers.plain_policy import Policy
    from lab.checkers.revision_timeline import Rules
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "policy"

LATE_NS = 1_000_000_000
"""Time that an answer may take beyond its use case's timeout, besides the driver's largest schedule delay of the run:
callers and drivers that wait for a processor notice the end of a timeout late."""

EARLY_NS = 20_000_000
"""Time by which a timeout may come too early: timers and deadlines on the wire have milliseconds, and are rounded."""

TEAR = "FAILED_PRECONDITION"
_LOST = frozenset({"CANCELLED", ""})  # the connection ended, or it is not known how the request ended
_NEVER_REPORTED = frozenset({"DEADLINE_EXCEEDED", "CANCELLED"})  # the caller had left before the attempts were reported
_MS = 1_000_000
_SHOWN = 3


class Extra(NamedTuple):
    """An attempt that a retry budget must have granted, between the end of the one before and its arrival."""

    record: Record
    policy: Policy
    from_ns: int
    arrived_ns: int
    ended_ns: int


def check(evidence: Evidence) -> Verdict:
    """Compares the attempts that models received with those reported, and with what the route table allows.

    - An answer's replica has received its request, under the key of the version that answered.
    - No more attempts reached models than the caller reports. Reported ones that reached none need a reason: a marked
      fault, a publish meanwhile, a limit of the tenant's rate, a breaker or health checks in the policy, or a time
      limit of an attempt.
    - The first attempt is at the chosen version. Each further one is the renewal of a tear, a retry after a status of
      ``retries.on`` (or after the time limit per attempt), a hedge after its time or a failure, or the next fallback
      after a status that allows one. A version that was skipped, and a fallback that never came, need a reason.
    - Extra attempts in flight stay within the budget: ``at_least`` for each limiter, and the budget's share of the
      requests in flight between the end of the attempt before and the arrival of this one. These are counted from
      sending to answer, so there are at least as many as the limiter saw.
    - A request is over within its use case's timeout and :data:`LATE_NS`, and none times out :data:`EARLY_NS` before.

    Returns:
        Invalid with any violation. Unknown if the replicas were not asked, or if they show no attempt. What only
        a replica could show that cannot say it is counted, and never a pass.
    """
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    run = _Run(evidence)
    violations: list[Violation] = []
    for record in evidence.records:
        messages = run.objections(record)
        violations += (Violation(NAME, record.sequence, record.request_id, message) for message in messages)
    violations += run.over_budget()
    violations.sort(key=lambda one: one.sequence)
    return _verdict(run, evidence, violations)


class _Run:
    """A run's requests, with what models received of each.

    Attributes:
        counts: how many of them were judged, seen in part, and how often models were asked again and why.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.counts: Counter[str] = Counter()
        self._evidence, self._can = evidence, evidence.abilities
        self._timeline, self._arrivals = evidence.timeline, evidence.attempts
        delays = (record.sent_ns - record.intended_ns for record in evidence.records if record.sent_ns)
        self._late_ns = LATE_NS + max(delays, default=0)
        self._extras: defaultdict[str, list[Extra]] = defaultdict(list)
        self._unheard = {each.replica: each.until_ns for each in evidence.unheard}

    def objections(self, record: Record) -> Iterator[str]:
        """Yields what is wrong with a request, in words."""
        if record.status == UNSENT:
            return
        arrivals = sorted(self._arrivals.get(record.request_id, ()), key=lambda each: each.arrived_ns)
        rules = self._timeline.during(record) if self._can.follows_rules else []
        met = [each for each in self._evidence.disturbances if each.met(record)]
        seen = not self._may_be_unseen(record, rules)
        self.counts["judged" if seen else "in part"] += 1
        self.counts["attempts"] += len(arrivals)
        yield from self._timing(record, rules)
        yield from self._answer(record, arrivals)
        yield from self._number(record, arrivals, rules, explained=bool(met) or not seen)
        if rules and (seen or arrivals):
            yield from self._order(record, arrivals, rules, met, seen=seen)

    def _may_be_unseen(self, record: Record, rules: Iterable[Rules]) -> bool:
        if not self._unheard:
            return False
        clusters = {record.cluster}
        for each in rules:
            for version in (each.expected(record), *each.fallbacks(record)):
                clusters |= {version.cluster, each.failover(version.cluster)}
        return any(
            cluster_of(name) in clusters and (until_ns is None or record.sent_ns < until_ns)
            for name, until_ns in self._unheard.items()
        )

    def _timing(self, record: Record, rules: Sequence[Rules]) -> Iterator[str]:
        timeouts = [ns for each in rules if (ns := each.timeout_ns(record.use_case))]
        took_ns = record.done_ns - record.sent_ns
        if timeouts and took_ns > max(timeouts) + self._late_ns:
            yield f"{request(record)} took {took_ns // _MS} ms; its timeout is {max(timeouts) // _MS} ms"
        if timeouts and record.status == "DEADLINE_EXCEEDED":
            tries = [round(each.policy(record).per_try_s * 1e9) for each in rules]
            limits = [*timeouts, *filter(None, tries), round((self._evidence.timeout_s or 1e9) * 1e9)]
            if took_ns < min(limits) - EARLY_NS:
                yield f"{request(record)} timed out after {took_ns // _MS} ms; its timeout is {min(timeouts) // _MS} ms"

    def _answer(self, record: Record, arrivals: Sequence[Arrival]) -> Iterator[str]:
        if record.status != "OK" or record.source == "default":
            return
        key = f"{record.model}.{record.version}"
        found = [each for each in arrivals if each.replica == record.replica and each.routing_key == key]
        if any(each.status == "OK" or each.status in _LOST for each in found):
            return
        if record.replica in self._unheard and not found:
            return
        how = f"ended it with {found[0].status}" if found else "received no such request"
        yield f"{request(record)}: {key} at {record.replica} answered, by the caller's word; that replica {how}"

    def _number(
        self, record: Record, arrivals: Sequence[Arrival], rules: Sequence[Rules], *, explained: bool
    ) -> Iterator[str]:
        if not self._can.reports_attempts or (
            record.status != "OK" and (explained or record.status in _NEVER_REPORTED)
        ):
            return
        came, reported = len(arrivals), record.attempts
        if came > reported and record.source != "default":  # which a caller gives without its gateway's report
            yield f"{request(record)}: {came} attempts reached models, {reported} are reported"
        if reported > max(came, 1) and not explained and len(rules) < 2 and not self._may_be_lost(record, rules):  # noqa: PLR2004 (a publish)
            yield f"{request(record)}: {reported} attempts are reported, {came} reached models"

    def _may_be_lost(self, record: Record, rules: Iterable[Rules]) -> bool:
        took_ns = record.done_ns - record.sent_ns
        for each in rules:
            policy = each.policy(record)
            limits_s = [*filter(None, [policy.per_try_s]), policy.hedge_after_s]
            if _may_refuse(each, record, self._evidence) or any(
                limit is not None and took_ns >= limit * 1e9 for limit in limits_s
            ):
                return True
        return False

    def _order(
        self,
        record: Record,
        arrivals: Sequence[Arrival],
        rules: Sequence[Rules],
        met: Sequence[Disturbance],
        *,
        seen: bool,
    ) -> Iterator[str]:
        paths = [
            _Path(each, record, met, seen=seen and not _may_refuse(each, record, self._evidence)) for each in rules
        ]
        for place, arrival in enumerate(arrivals):
            before = arrivals[:place]
            reasons = [path.reason(arrival, before) for path in paths]
            good = [(path, why) for path, why in zip(paths, reasons, strict=True) if not why.startswith("!")]
            if not good:
                what = f"attempt {place + 1} to reach models, at {arrival.routing_key}"
                yield f"{request(record)}: {what}: {reasons[0][1:]}"
                return
            path, why = good[0]
            if why:
                self.counts[why] += 1
            if why == "retry" or (why == "hedge" and self._can.budgets_hedges):
                ended_ns = arrival.ended_ns or record.done_ns
                since_ns = min(before[-1].ended_ns or arrival.arrived_ns, arrival.arrived_ns)
                extra = Extra(record, path.policy, since_ns, arrival.arrived_ns, min(ended_ns, record.done_ns))
                self._extras[arrival.routing_key].append(extra)
        if len(paths) == 1 and (missing := paths[0].missing(arrivals)):
            yield f"{request(record)}: {missing}"

    def over_budget(self) -> Iterator[Violation]:
        """Yields the extra attempts that no budget can have granted."""
        if not self._can.budgets_retries:
            return
        for key, extras in self._extras.items():
            flights = _InFlight(self._evidence, self._arrivals, key)
            began = sorted(each.arrived_ns for each in extras)
            ended = sorted(each.ended_ns for each in extras)
            for each in extras:
                now_ns = each.arrived_ns
                under_way = bisect_right(began, now_ns) - bisect_right(ended, now_ns)
                others = flights.between(each.from_ns - CLOCKS_NS, now_ns + CLOCKS_NS)
                allowed = self._can.limiters * each.policy.at_least + floor(each.policy.share * others)
                if under_way > allowed:
                    message = (
                        f"{request(each.record)}: {under_way} extra attempts at {key} in flight at once; the budget "
                        f"allows {allowed} beside {others} requests"
                    )
                    yield Violation(NAME, each.record.sequence, each.record.request_id, message)


class _Path:
    """The versions that one request may reach by one revision, in order; ``seen``: no attempt at them is missing."""

    def __init__(self, rules: Rules, record: Record, met: Sequence[Disturbance], *, seen: bool) -> None:
        chosen = rules.expected(record)
        versions = (chosen, *rules.fallbacks(record)) if chosen.status == "OK" else ()
        self._keys = [f"{each.model}.{each.version}" for each in versions]
        self._clusters = [each.cluster for each in versions]
        self._rules, self._record, self._met, self._seen = rules, record, met, seen
        self.policy = rules.policy(record)

    def reason(self, arrival: Arrival, before: Sequence[Arrival]) -> str:
        """Returns why this attempt was right after those before it; after ``!`` why it was not."""
        if arrival.routing_key not in self._keys:
            return f"!revision {self._rules.number} has {', then '.join(self._keys) or 'no version'} for it"
        place = self._keys.index(arrival.routing_key)
        if not before or (before[-1].status == TEAR and before[-1] is before[0]):
            skipped = self._skipped(0, place)
            return f"!{skipped} was skipped without a reason" if skipped else "tear" if before else ""
        last = before[-1]
        if last.routing_key == arrival.routing_key:
            return self._again(arrival, before)
        if last.routing_key not in self._keys or (came_from := self._keys.index(last.routing_key)) > place:
            return f"!{last.routing_key} was tried before, which comes later in the table"
        statuses = {each.status for each in before if each.routing_key == last.routing_key}
        if not statuses & (FALLS_BACK | _LOST):
            return f"!a fallback after {last.status}, after which there is none"
        skipped = self._skipped(came_from + 1, place)
        return f"!fallback {skipped} was skipped without a reason" if skipped else "fallback"

    def _again(self, arrival: Arrival, before: Sequence[Arrival]) -> str:
        policy, last = self.policy, before[-1]
        here = [each for each in before if each.routing_key == arrival.routing_key and each.status != TEAR]
        if len(here) >= policy.attempts:
            return f"!attempt {len(here) + 1} at it; the table allows {policy.attempts}"
        after_ns = arrival.arrived_ns - self._record.sent_ns + CLOCKS_NS
        if policy.hedge_after_s is not None:
            failed = last.status in FALLS_BACK or (last.status in _LOST and bool(self._met))
            if failed or after_ns >= policy.hedge_after_s * 1e9:
                return "hedge"
            return f"!a hedge after {after_ns // _MS} ms; the table says {policy.hedge_after_s * 1e3:g} ms"
        late = policy.per_try_s and after_ns >= policy.per_try_s * 1e9
        if last.status in policy.on or (last.status in _LOST and ("UNAVAILABLE" in policy.on or late)):
            return "retry"
        if last.status == "DEADLINE_EXCEEDED" and late:
            return "retry"
        return f"!a retry after {last.status}; the table retries on {', '.join(sorted(policy.on)) or 'none'}"

    def missing(self, arrivals: Sequence[Arrival]) -> str:
        """Returns the fallback that should have been tried and was not, in words; empty if there is none."""
        record = self._record
        failed = record.status in FALLS_BACK or record.source == "default"
        if not failed or not arrivals or arrivals[-1].status not in FALLS_BACK:
            return ""
        place = self._keys.index(arrivals[-1].routing_key) + 1
        left = self._skipped(place, len(self._keys))
        timeout_ns = self._rules.timeout_ns(record.use_case)
        if not left or record.done_ns - record.sent_ns >= timeout_ns - EARLY_NS:
            return ""
        return f"{arrivals[-1].routing_key} ended it with {arrivals[-1].status}; fallback {left} was not tried"

    def _skipped(self, start: int, end: int) -> str:
        """Returns the first version between two places that had no reason to be skipped; empty if each had one.

        Reasons: a marked fault hits its cluster, or an attempt at it may not have been seen.
        """
        for place in range(start, end):
            cluster = self._clusters[place]
            hit = any(each.hits(cluster) for each in self._met)
            if not hit and self._seen:
                return self._keys[place]
        return ""


class _InFlight:
    """The requests in flight to a key, from sending to answer; those of other callers while models had them."""

    def __init__(self, evidence: Evidence, arrivals: Mapping[str, Sequence[Arrival]], key: str) -> None:
        records = {record.request_id: record for record in evidence.records}
        spans = [
            (record.sent_ns, record.done_ns)
            for record in evidence.records
            if key in {each.routing_key for each in arrivals.get(record.request_id, ())} or not record.model
        ]
        spans += [
            (each.arrived_ns, each.ended_ns or each.arrived_ns)
            for request_id, ones in arrivals.items()
            if request_id not in records
            for each in ones
            if each.routing_key == key
        ]
        self._began, self._ended = sorted(began for began, _ in spans), sorted(ended for _, ended in spans)

    def between(self, from_ns: int, until_ns: int) -> int:
        """Returns the number of those that were in flight at any time in between."""
        return bisect_right(self._began, until_ns) - bisect_left(self._ended, from_ns)


def _may_refuse(rules: Rules, record: Record, evidence: Evidence) -> bool:
    """Whether a proxy may fail an attempt before it reaches a model."""
    quota = evidence.quota(rules, record.tenant) if evidence.abilities.limits_rates else None
    return rules.policy(record).may_refuse or (quota is not None and quota.rate is not None)


def _verdict(run: _Run, evidence: Evidence, violations: Sequence[Violation]) -> Verdict:
    counts = run.counts
    summary = f"models received {counts['attempts']} attempts of {counts['judged'] + counts['in part']} requests"
    for what, words in (("retry", "retries"), ("hedge", "hedges"), ("fallback", "fallbacks"), ("tear", "renewals")):
        if counts[what]:
            summary += f", {counts[what]} {words}"
    if evidence.unheard:
        names = ", ".join(f"{each.replica} ({each.reason})" for each in evidence.unheard[:_SHOWN])
        summary += f"; {counts['in part']} not wholly shown, as not all can say what they received: {names}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    if not counts["judged"] and not counts["attempts"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"no request could be judged; {summary}")
    return Verdict(NAME, Outcome.VALID, summary)


CHECKER = Checker(
    name=NAME,
    question="Did each request reach models as often, in the order and in the time that the table allows?",
    claim=Claim.CORRECTNESS,
    check=check,
)
