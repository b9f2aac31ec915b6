"""Did each request reach models as often, in the order and in the time that the table allows?"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, cluster_of
from lab.checkers.extra_attempts import Extra, ExtraAttempts, Owed
from lab.checkers.late_timers import LateTimers
from lab.checkers.plain_policy import FALLS_BACK
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.checkers.evidence import Abilities, Disturbance, Evidence
    from lab.checkers.plain_policy import Policy
    from lab.checkers.revision_timeline import Rules
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "policy"

LATE_NS = 1_000_000_000
"""Time that an answer may take beyond its use case's timeout, besides twice the driver's largest schedule delay
meanwhile: a process that waits for a processor notices the end of a timeout late. A driver's loop needs two turns, one
for the timer and one for the request."""

EARLY_NS = 20_000_000
"""Time by which a timeout may come too early, besides the driver's largest schedule delay meanwhile: timers and
deadlines on the wire have milliseconds, and are rounded. A loop that waited for a processor sets its timers by the time
at which its turn began, so they end early by as much. The failure itself is judged by *answered*."""

_MEANWHILE_S = 1
"""Seconds before and after a request in which a delay of the driver says that the machine was busy."""

SENT_ONCE_BYTES = 250_000
"""Payload above which no further attempt is owed: gRPC keeps no request over 256 KiB to send it again, and Envoy none
over 1 MiB."""

TEAR = "FAILED_PRECONDITION"
_LOST = frozenset({"CANCELLED", ""})  # the connection ended, or it is not known how the request ended
_CUT_OFF = frozenset({"DEADLINE_EXCEEDED", "CANCELLED"})  # its caller had left, so nothing is reported
_MS, _S = 1_000_000, 1_000_000_000
_SHOWN = 3
_TIMER_LATE_NS = 100_000_000  # a busy proxy's timers fire late


def check(evidence: Evidence) -> Verdict:
    """Compares the attempts that models received with those reported, and with what the route table allows.

    - An answer's replica has received its request, under the key of the version that answered.
    - No more attempts reached models than the caller reports. Reported ones that reached none need a reason: a marked
      fault, a publish meanwhile, a limit of the tenant's rate, a breaker or health checks in the policy, or a time
      limit of an attempt.
    - The first attempt is at the chosen version. Each further one is the renewal of a tear, a retry after a status of
      ``retries.on`` (or after the time limit per attempt), a hedge after its time or a failure, or the next fallback
      after a status that allows one. A version that was skipped, and a fallback that never came, need a reason.
    - A retry or a hedge that was due and never came needs a reason: the budget may have been used up by ``at_least``
      others, or a proxy was hit by a fault. Where ``at_least`` is 0, the budget may always have been used up.
    - No answer but a stream comes from an attempt that took longer than its own time limit.
    - Extra attempts in flight stay within the budget: ``at_least`` for each limiter, and the budget's share of the
      requests in flight between the end of the attempt before and the arrival of this one. These are counted from
      sending to answer, so there are at least as many as the limiter saw.
    - A request is over within its use case's timeout and :data:`LATE_NS`, and none times out :data:`EARLY_NS` before.
      That is not asked of one that met a fault of a unit between caller and model: Envoy's timers count from the last
      time that its event loop took, which is older than the request if Envoy was stopped or starved.
    - A request fails with the status of its last attempt, if no proxy and no timeout ended it before.
    - Timeouts, time limits of attempts and hedges do not come late each time, see :mod:`lab.checkers.late_timers`.

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
    for record, message in (*run.extras.over_budget(), *run.extras.never_made(), *run.timers.late()):
        violations.append(Violation(NAME, record.sequence, record.request_id, f"{request(record)}: {message}"))
    violations.sort(key=lambda one: one.sequence)
    return _verdict(run, evidence, violations)


class _Run:
    """A run's requests, with what models received of each.

    Attributes:
        counts: how many of them were judged, seen in part, and how often models were asked again and why.
        extras: the retries and hedges that were made and that were due, for a judgement against the budget.
        timers: when timeouts, time limits of attempts and hedges came.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.counts: Counter[str] = Counter()
        self._evidence, self._can = evidence, evidence.abilities
        self._timeline, self._arrivals = evidence.timeline, evidence.attempts
        self._delays_ns: defaultdict[int, int] = defaultdict(int)  # the largest of the requests sent in a second
        for record in evidence.records:
            if record.sent_ns:
                second = record.sent_ns // _S
                self._delays_ns[second] = max(self._delays_ns[second], record.sent_ns - record.intended_ns)
        self.extras = ExtraAttempts(evidence, self._arrivals)
        self.timers = LateTimers(evidence, self._arrivals)
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
        yield from self._timing(record, rules, stalled=any(map(self._is_between, met)))
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

    def _timing(self, record: Record, rules: Sequence[Rules], *, stalled: bool) -> Iterator[str]:
        timeouts = [ns for each in rules if (ns := each.timeout_ns(record.use_case))]
        took_ns = record.done_ns - record.sent_ns
        late_ns = took_ns - max(timeouts, default=took_ns) - LATE_NS
        if late_ns > 0 and late_ns > 2 * self._delay_ns(record):
            yield f"{request(record)} took {took_ns // _MS} ms; its timeout is {max(timeouts) // _MS} ms"
        if timeouts and record.status == "DEADLINE_EXCEEDED" and not stalled:
            self.timers.saw("timed out", max(timeouts), took_ns, record)
            tries = [round(each.policy(record).per_try_s * 1e9) for each in rules]
            limits = [*timeouts, *filter(None, tries), round((self._evidence.timeout_s or 1e9) * 1e9)]
            early_ns = min(limits) - EARLY_NS - took_ns
            if early_ns > 0 and early_ns > self._delay_ns(record):
                yield f"{request(record)} timed out after {took_ns // _MS} ms; its timeout is {min(timeouts) // _MS} ms"

    def _delay_ns(self, record: Record) -> int:
        """The driver's largest schedule delay while this request was under way."""
        first, last = record.sent_ns // _S - _MEANWHILE_S, record.done_ns // _S + _MEANWHILE_S
        meanwhile, known = range(first, last + 1), self._delays_ns
        seconds = meanwhile if len(meanwhile) < len(known) else filter(meanwhile.__contains__, known)
        return max((known.get(second, 0) for second in seconds), default=0)

    def _is_between(self, disturbance: Disturbance) -> bool:
        """Whether it hit a unit between caller and model."""
        return disturbance.role in self._can.between

    def _limit(self, record: Record, arrivals: Sequence[Arrival], policy: Policy, *, stalled: bool) -> Iterator[str]:
        if not (policy.per_try_s and self._can.limits_attempts) or stalled or record.streamed:
            return
        limit_ns = round(policy.per_try_s * 1e9)
        for each in arrivals:
            if each.status in _CUT_OFF and each.ended_ns - each.arrived_ns >= limit_ns - EARLY_NS:
                self.timers.saw("an attempt ended", limit_ns, each.ended_ns - each.arrived_ns, record)
        if record.status != "OK" or len(arrivals) != 1:
            return
        if _is_longer(arrivals[0], policy.per_try_s, self._delay_ns(record)):
            took = f"took {(arrivals[0].ended_ns - arrivals[0].arrived_ns) // _MS} ms"
            limit = f"an attempt may take {policy.per_try_s * 1e3:g} ms"
            yield f"{request(record)}: the attempt that was answered {took}; {limit}"

    def _status(self, record: Record, arrivals: Sequence[Arrival]) -> Iterator[str]:
        last = arrivals[-1].status if arrivals else ""
        if last in {"OK", TEAR} | _LOST or record.status in {"OK", last} | _CUT_OFF:
            return
        yield f"{request(record)} failed with {record.status}, by the caller's word; its last attempt ended with {last}"

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
        if not self._can.reports_attempts or (record.status != "OK" and (explained or record.status in _CUT_OFF)):
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
            if why == "hedge" and not 0 < before[-1].ended_ns < arrival.arrived_ns:  # not since the first failed
                waited_ns, after_s = arrival.arrived_ns - before[-1].arrived_ns, path.policy.hedge_after_s or 0
                self.timers.saw("hedged", round(after_s * 1e9), waited_ns, record)
            if why == "retry" or (why == "hedge" and self._can.budgets_hedges):
                ended_ns = arrival.ended_ns or record.done_ns
                since_ns = min(before[-1].ended_ns or arrival.arrived_ns, arrival.arrived_ns)
                key, until_ns = arrival.routing_key, min(ended_ns, record.done_ns)
                self.extras.made.append(Extra(record, path.policy, key, since_ns, arrival.arrived_ns, until_ns))
        if len(paths) == 1 and (missing := paths[0].missing(arrivals)):
            yield f"{request(record)}: {missing}"
        if len(paths) == 1:
            yield from self._limit(record, arrivals, paths[0].policy, stalled=any(map(self._is_between, met)))
        hindered = any(each.kills or self._is_between(each) for each in met) or record.payload_bytes > SENT_ONCE_BYTES
        if len(paths) == 1 and paths[0].seen and not (hindered or record.streamed) and record.attempts <= len(arrivals):
            self.extras.owed += paths[0].owed(arrivals, self._can, self._delay_ns(record))
            yield from self._status(record, arrivals)


class _Path:
    """The versions that one request may reach by one revision, in order; ``seen``: no attempt at them is missing."""

    def __init__(self, rules: Rules, record: Record, met: Sequence[Disturbance], *, seen: bool) -> None:
        chosen = rules.expected(record)
        versions = (chosen, *rules.fallbacks(record)) if chosen.status == "OK" else ()
        self._keys = [f"{each.model}.{each.version}" for each in versions]
        self._clusters = [each.cluster for each in versions]
        self._rules, self._record, self._met, self.seen = rules, record, met, seen
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

    def owed(self, arrivals: Sequence[Arrival], can: Abilities, delay_ns: int) -> Iterator[Owed]:
        """Yields the extra attempts that a version's policy asks for and that no model received.

        Args:
            arrivals: the attempts that models received, in order.
            can: what the topology does.
            delay_ns: the driver's largest schedule delay meanwhile.
        """
        record, policy = self._record, self.policy
        for place, last in enumerate(arrivals):
            key, following = last.routing_key, arrivals[place + 1] if place + 1 < len(arrivals) else None
            made = sum(each.routing_key == key for each in arrivals[: place + 1])
            if (following and following.routing_key == key) or made >= policy.attempts:
                continue
            until_ns = following.arrived_ns if following else record.done_ns
            if policy.hedge_after_s is None:
                in_time = until_ns - record.sent_ns < self._rules.timeout_ns(record.use_case) - EARLY_NS
                gave_up = following or record.status in FALLS_BACK or record.source == "default"
                if can.retries and last.status in policy.on and in_time and gave_up:
                    what = f"{key} ended it with {last.status}; attempt {made + 1} was never made"
                    yield Owed(record, policy, key, last.ended_ns or last.arrived_ns, until_ns, what)
            elif can.hedges and _is_longer(last, policy.hedge_after_s, delay_ns):
                what = f"{key} took {(last.ended_ns - last.arrived_ns) // _MS} ms; no second attempt began beside it"
                yield Owed(record, policy, key, last.arrived_ns, last.ended_ns, what)

    def _skipped(self, start: int, end: int) -> str:
        """Returns the first version between two places that had no reason to be skipped; empty if each had one.

        Reasons: a marked fault hits its cluster, or an attempt at it may not have been seen.
        """
        for place in range(start, end):
            cluster = self._clusters[place]
            hit = any(each.hits(cluster) for each in self._met)
            if not hit and self.seen:
                return self._keys[place]
        return ""


def _is_longer(attempt: Arrival, limit_s: float, delay_ns: int) -> bool:
    """Whether an attempt outlasted a proxy's timer, even one that fires late."""
    return attempt.ended_ns - attempt.arrived_ns > round(2e9 * limit_s) + _TIMER_LATE_NS + delay_ns


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
