"""Did each request reach models as often, in the order and in the time that the table allows?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence, FaultWindow, cluster_of
from lab.checkers.extra_attempts import Extra, ExtraAttempts
from lab.checkers.late_timers import LateTimers
from lab.checkers.plain import version_of
from lab.checkers.revision_timeline import Rules, request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.checkers.version_path import EARLY_NS, LOST, TEAR, VersionPath, is_longer
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Policy
    from lab.history.arrivals import Arrival

NAME = "policy"

LATE_NS = 1_000_000_000
"""Time that an answer may take beyond its use case's timeout, besides twice the driver's largest schedule delay
meanwhile: a process that waits for a processor notices the end of a timeout late. A driver's loop needs two turns, one
for the timer and one for the request."""

_CALM_NS = 50_000_000
"""Delay of the driver above which timers meanwhile are not compared with those of the table."""

_MEANWHILE_S = 1
"""Seconds before and after a request in which a delay of the driver says that the machine was busy."""

SENT_ONCE_BYTES = 250_000
"""Payload above which no retry is expected: gRPC keeps no request over 256 KiB to send it again, and Envoy none
over 1 MiB."""

_CUT_OFF = frozenset({"DEADLINE_EXCEEDED", "CANCELLED"})  # its caller had left, so nothing is reported
_MS, _S = 1_000_000, 1_000_000_000
_SHOWN = 3


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
    - No attempt beside a hedge is cancelled before one of the two is answered, unless a fault may have closed its
      connection.
    - Timeouts, time limits of attempts, hedges and the better of two hedged answers do not come late each time, and
      pauses before retries are not too short each time, see :mod:`lab.checkers.late_timers`.

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
    of_all = (*run.extras.over_budget(), *run.extras.never_made(), *run.timers.late(), *run.timers.short())
    for record, message in of_all:
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
        self._largest_delay_ns = cache(partial(_largest, self._delays_ns))
        self.extras = ExtraAttempts(evidence, self._arrivals)
        self.timers = LateTimers(evidence, self._arrivals)

    def objections(self, record: Record) -> Iterator[str]:
        """Yields what is wrong with a request, in words."""
        if record.status == UNSENT:
            return
        arrivals = sorted(self._arrivals.get(record.request_id, ()), key=lambda each: each.arrived_ns)
        rules = self._timeline.during(record) if self._can.follows_rules else []
        met = [each for each in self._evidence.fault_windows if each.met(record)]
        seen = not self._may_be_unseen(record, rules)
        self.counts["judged" if seen else "in part"] += 1
        self.counts["attempts"] += len(arrivals)
        yield from self._timing(record, rules, stalled=any(map(self._is_between, met)))
        yield from self._answer(record, arrivals)
        yield from self._number(record, arrivals, rules, explained=bool(met) or not seen)
        if rules and (seen or arrivals):
            yield from self._order(record, arrivals, rules, met, seen=seen)

    def _may_be_unseen(self, record: Record, rules: Iterable[Rules]) -> bool:
        gaps = {cluster_of(each.replica) for each in self._evidence.arrival_gaps if each.hides(record)}
        if not gaps:
            return False
        clusters = {record.cluster}
        for each in rules:
            for version in (each.expected(record), *each.fallbacks(record)):
                clusters |= {version.cluster, each.failover(version.cluster)}
        return not gaps.isdisjoint(clusters)

    def _timing(self, record: Record, rules: Sequence[Rules], *, stalled: bool) -> Iterator[str]:
        timeouts = [ns for each in rules if (ns := each.timeout_ns(record.use_case))]
        took_ns = record.done_ns - record.sent_ns
        late_ns = took_ns - max(timeouts, default=took_ns) - LATE_NS
        if late_ns > 0 and late_ns > 2 * self._delay_ns(record):
            yield f"{request(record)} took {took_ns // _MS} ms; its timeout is {max(timeouts) // _MS} ms"
        if timeouts and record.status == "DEADLINE_EXCEEDED" and not stalled:
            self._saw("timed out", max(timeouts), took_ns, record)
            tries = [round(each.policy(record).per_try_s * 1e9) for each in rules]
            limits = [*timeouts, *filter(None, tries), round((self._evidence.timeout_s or 1e9) * 1e9)]
            early_ns = min(limits) - EARLY_NS - took_ns
            if early_ns > 0 and early_ns > self._delay_ns(record):
                yield f"{request(record)} timed out after {took_ns // _MS} ms; its timeout is {min(timeouts) // _MS} ms"

    def _saw(self, what: str, limit_ns: int, took_ns: int, record: Record, **words: str) -> None:
        """Notes a timer of a request, unless the machine hung at that time: it then fires late as well."""
        if self._delay_ns(record) <= _CALM_NS:
            self.timers.saw(what, limit_ns, took_ns, record, **words)

    def _delay_ns(self, record: Record) -> int:
        """The driver's largest schedule delay while this request was under way."""
        return self._largest_delay_ns(record.sent_ns // _S - _MEANWHILE_S, record.done_ns // _S + _MEANWHILE_S)

    def _is_between(self, fault_window: FaultWindow) -> bool:
        """Whether it hit a unit between caller and model."""
        return fault_window.role in self._can.between

    def _limit(self, record: Record, arrivals: Sequence[Arrival], policy: Policy, *, stalled: bool) -> Iterator[str]:
        if not (policy.per_try_s and self._can.limits_attempts) or stalled or record.streamed:
            return
        limit_ns = round(policy.per_try_s * 1e9)
        for each in arrivals:
            if each.status in _CUT_OFF and each.ended_ns - each.arrived_ns >= limit_ns - EARLY_NS:
                self._saw("an attempt ended", limit_ns, each.ended_ns - each.arrived_ns, record)
        if record.status != "OK" or len(arrivals) != 1:
            return
        if is_longer(arrivals[0], policy.per_try_s, self._delay_ns(record)):
            took = f"took {(arrivals[0].ended_ns - arrivals[0].arrived_ns) // _MS} ms"
            limit = f"an attempt may take {policy.per_try_s * 1e3:g} ms"
            yield f"{request(record)}: the attempt that was answered {took}; {limit}"

    def _status(self, record: Record, arrivals: Sequence[Arrival]) -> Iterator[str]:
        last = arrivals[-1].status if arrivals else ""
        if last in {"OK", TEAR} | LOST or record.status in {"OK", last} | _CUT_OFF:
            return
        yield f"{request(record)} failed with {record.status}, by the caller's word; its last attempt ended with {last}"

    def _answer(self, record: Record, arrivals: Sequence[Arrival]) -> Iterator[str]:
        if record.status != "OK" or record.source == "default":
            return
        key = f"{record.model}.{record.version}"
        found = [each for each in arrivals if each.replica == record.replica and version_of(each.routing_key) == key]
        if any(each.status == "OK" or each.status in LOST for each in found):
            return
        gaps = self._evidence.arrival_gaps
        if not found and any(each.replica == record.replica and each.hides(record) for each in gaps):
            return
        how = f"ended it with {found[0].status}" if found else "received no such request"
        yield f"{request(record)}: {key} at {record.replica} answered, by the caller's word; that replica {how}"

    def _number(
        self, record: Record, arrivals: Sequence[Arrival], rules: Sequence[Rules], *, explained: bool
    ) -> Iterator[str]:
        if "attempts" not in self._can.reports or (record.status != "OK" and (explained or record.status in _CUT_OFF)):
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
        met: Sequence[FaultWindow],
        *,
        seen: bool,
    ) -> Iterator[str]:
        paths = [
            VersionPath(each, record, met, seen=seen and not _may_refuse(each, record, self._evidence))
            for each in rules
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
                self._note(record, path.policy, why, arrival, before)
        if len(paths) == 1 and (missing := paths[0].missing(arrivals)):
            yield f"{request(record)}: {missing}"
        if len(paths) == 1:
            stalled = any(map(self._is_between, met))
            yield from self._limit(record, arrivals, paths[0].policy, stalled=stalled)
            if paths[0].policy.hedge_after_s is not None and not stalled:
                yield from self._hedged(record, arrivals, closed=any(each.closes for each in met))
        hindered = any(each.kills or self._is_between(each) for each in met) or record.payload_bytes > SENT_ONCE_BYTES
        if len(paths) == 1 and paths[0].seen and not (hindered or record.streamed) and record.attempts <= len(arrivals):
            self.extras.owed += paths[0].owed(arrivals, self._can, self._delay_ns(record))
            yield from self._status(record, arrivals)

    def _note(self, record: Record, policy: Policy, why: str, arrival: Arrival, before: Sequence[Arrival]) -> None:
        """Keeps an attempt after others, for a judgement beside all that were made for the same reason."""
        last, at_ns = before[-1], arrival.arrived_ns
        if why == "hedge" and not 0 < last.ended_ns < at_ns:  # not since the first failed
            after_ns = round((policy.hedge_after_s or 0) * 1e9)
            self._saw("hedged", after_ns, at_ns - last.arrived_ns, record)
        if why == "retry" and last.status in policy.on and policy.backoff_s:
            again = sum(each.routing_key == arrival.routing_key for each in before) - 1
            self.timers.paused(round(policy.backoff_s * 2**again * 1e9), at_ns - last.ended_ns, record)
        if why == "retry" or (why == "hedge" and self._can.budgets_hedges):
            until_ns = min(arrival.ended_ns or record.done_ns, record.done_ns)
            since_ns = min(last.ended_ns or at_ns, at_ns)
            self.extras.made.append(Extra(record, policy, arrival.routing_key, since_ns, at_ns, until_ns))

    def _hedged(self, record: Record, arrivals: Sequence[Arrival], *, closed: bool) -> Iterator[str]:
        """Two attempts run side by side until one is answered, which counts at once; or until its connection ends."""
        good = [each for each in arrivals if each.status == "OK"]
        if record.status != "OK" or record.streamed or len(arrivals) <= 1 or not good:
            return
        first = min(good, key=lambda each: each.ended_ns)
        reason = "a model had answered it by then"
        self._saw("a hedged request was over", 0, record.done_ns - first.ended_ns, record, reason=reason)
        for each in () if closed else arrivals:
            early_ns = first.ended_ns - each.ended_ns
            if each.status == "CANCELLED" and each.routing_key == first.routing_key and early_ns > CLOCKS_NS:
                ran = f"an attempt was cancelled {early_ns // _MS} ms before the other one was answered"
                yield f"{request(record)}: {ran}; both may be answered until then"


def _largest(of_second: Mapping[int, int], first: int, last: int) -> int:
    """Returns the largest value from one second to another; 0 if there is none."""
    meanwhile = range(first, last + 1)
    seconds = meanwhile if len(meanwhile) < len(of_second) else filter(meanwhile.__contains__, of_second)
    return max((of_second.get(second, 0) for second in seconds), default=0)


def _may_refuse(rules: Rules, record: Record, evidence: Evidence) -> bool:
    """Whether a proxy may fail an attempt before it reaches a model, or has, as another checker's evidence explains."""
    quota = evidence.quota(rules, record.tenant) if evidence.abilities.limits_rates else None
    limited = rules.policy(record).may_refuse or (quota is not None and quota.rate is not None)
    return limited or record.request_id in evidence.explained


def _verdict(run: _Run, evidence: Evidence, violations: Sequence[Violation]) -> Verdict:
    counts = run.counts
    summary = f"models received {counts['attempts']} attempts of {counts['judged'] + counts['in part']} requests"
    for what, words in (("retry", "retries"), ("hedge", "hedges"), ("fallback", "fallbacks"), ("tear", "renewals")):
        if counts[what]:
            summary += f", {counts[what]} {words}"
    if evidence.arrival_gaps:
        names = ", ".join(f"{each.replica} ({each.reason})" for each in evidence.arrival_gaps[:_SHOWN])
        summary += f"; {counts['in part']} not wholly shown, as not all can say what they received: {names}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    if not counts["judged"] and not counts["attempts"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"no request could be judged; {summary}")
    return Verdict(NAME, Outcome.VALID, summary)


CHECKER = Checker(
    name=NAME,
    question="Did each request reach models as often, in the order and in the time that the table allows?",
    blind="decisions of a proxy of which no attempt shows: pauses and timeouts that are off by less than "
    "the clocks and a busy machine are",
    claim=Claim.CORRECTNESS,
    check=check,
)
