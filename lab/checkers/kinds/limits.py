"""Did tenants get what their limits allow, no more, and no less?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence, cluster_of
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Quota
    from lab.history.arrivals import Arrival

NAME = "limits"

SPARE_TOKENS = 1.0
"""Tokens that must be left, besides the one that a request needs, before its refusal counts as wrong."""

_REFUSED = "RESOURCE_EXHAUSTED"


class Admitted(NamedTuple):
    """A request that passed its tenant's limits, at some time between its sending and its first arrival at a model."""

    record: Record
    from_ns: int
    until_ns: int
    ended_ns: int  # until when models had it


def check(evidence: Evidence) -> Verdict | None:
    """Recomputes token buckets and requests in flight, by tenant, from what models received.

    - **Too much**: no assignment of admissions to times between sending and first arrival fits the bucket, which is
      full when the run begins. A limit that was changed, and a limiter that a fault hit, count as one more full bucket
      each. Requests that models have at the same time, those apart whose caller has left, are more than ``concurrent``.
      Limits are divided among the limiter's replicas, and each rounds its share up.
    - **Too little**: a request was refused although a bucket that was empty when the run began, and to which every
      request of the tenant was charged as late as possible, had a token and one to spare. Judged for one limiter only,
      as a replica may refuse while others have tokens, and where nothing but the tenant's limit can refuse.
    - **Not theirs**: a model got a request for a tenant from a caller that may not name it, or under another tenant.

    Returns:
        None if the topology limits no tenants, or if no table limits a tenant of the run. Unknown if the replicas were
        not asked what they received.
    """
    can = evidence.abilities
    if not (can.limits_rates or can.limits_concurrency):
        return None
    accounts = _accounts(evidence)
    if not accounts:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    summary = "; ".join(each.summary for each in accounts)
    if evidence.arrival_gaps:
        summary += f"; {', '.join(each.replica for each in evidence.arrival_gaps)} cannot say all that they received"
    violations = list(_not_theirs(evidence))
    for account in accounts:
        violations += _too_much(account, evidence)
        violations += _too_little(account, evidence)
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    shown = any(each.admitted or each.refused for each in accounts)
    return Verdict(NAME, Outcome.VALID if shown else Outcome.UNKNOWN, summary)


@dataclass
class _Account:
    """The requests of a run that count together.

    Attributes:
        name: tenant, or in words which.
        quotas: the different limits that were in force for it during the run; None among them: there was none.
        admitted: requests that models received.
        refused: requests that were refused for a limit, as far as no model did it.
        unclear: requests that no model received, and that failed with something else.
        others: number of requests by other callers, or of other runs, that models received.
    """

    name: str
    quotas: Sequence[Quota | None]
    admitted: list[Admitted] = field(default_factory=list)
    refused: list[Record] = field(default_factory=list)
    unclear: list[Record] = field(default_factory=list)
    others: int = 0

    @property
    def summary(self) -> str:
        """The counts in words."""
        return f"{self.name or 'no tenant'}: {len(self.admitted)} admitted, {len(self.refused)} refused"


def _accounts(evidence: Evidence) -> list[_Account]:
    by_tenant: dict[str, _Account] = {}
    by_name: dict[str, _Account] = {}
    for tenant in dict.fromkeys(record.tenant for record in evidence.records):
        quotas = list(dict.fromkeys(evidence.quota(rules, tenant) for rules in evidence.timeline.rules))
        limited = [each for each in quotas if each is not None]
        if limited:
            name = limited[0].account
            by_tenant[tenant] = by_name.setdefault(name, _Account(name, quotas))
    own = set()
    for record in evidence.records:
        own.add(record.request_id)
        account = by_tenant.get(record.tenant)
        if account is None or record.status == UNSENT:
            continue
        if its := evidence.attempts.get(record.request_id):
            account.admitted.append(_admitted(record, its))
        else:
            (account.refused if record.status == _REFUSED else account.unclear).append(record)
    for request_id, its in evidence.attempts.items():
        if request_id not in own and (account := by_tenant.get(its[0].tenant)) is not None:
            account.others += 1
    return list(by_name.values())


def _not_theirs(evidence: Evidence) -> Iterator[Violation]:
    for record in evidence.records:
        its = evidence.attempts.get(record.request_id)
        if not its:
            continue
        if names := sorted({each.tenant for each in its} - {record.tenant}):
            yield _violation(record, f"was sent for tenant {record.tenant!r}, and reached models for {names[0]!r}")
        quotas = [evidence.quota(rules, record.tenant) for rules in evidence.timeline.during(record)]
        if quotas and all(each and each.callers and record.caller not in each.callers for each in quotas):
            yield _violation(record, f"reached a model, though {record.caller} may not name tenant {record.tenant!r}")


def _too_much(account: _Account, evidence: Evidence) -> Iterator[Violation]:
    limits = [each for each in account.quotas if each is not None]
    if len(limits) < len(account.quotas):
        return  # there was a time without a limit
    models = {each.cluster for each in evidence.records}
    targets = (each.target for each in evidence.fault_windows)
    faults = sum(target not in models and cluster_of(target) not in models for target in targets)
    rates = [each.rate for each in limits if each.rate is not None]
    if evidence.abilities.limits_rates and len(rates) == len(limits):
        burst = (len(limits) + faults) * max(each.burst for each in limits)
        yield from _too_fast(account, max(rates), burst)
    bounds = [each.concurrent for each in limits if each.concurrent is not None]
    if evidence.abilities.limits_concurrency and len(bounds) == len(limits):
        yield from _too_many(account, max(bounds) * (1 + faults))


def _too_little(account: _Account, evidence: Evidence) -> Iterator[Violation]:
    """Yields refusals that neither the rate nor the bound on requests in flight explains."""
    can, [quota, *others] = evidence.abilities, account.quotas
    loud = account.others or evidence.arrival_gaps or any(each.closes for each in evidence.fault_windows)
    if quota is None or others or loud or can.limiters > 1 or evidence.window_ns is None:
        return
    maybe = [(each.from_ns, each.until_ns, each.record.done_ns) for each in account.admitted]
    maybe += [(each.sent_ns, each.done_ns, each.done_ns) for each in account.unclear]
    began, charged, ended = (sorted(times) for times in zip(*maybe, strict=True)) if maybe else ([], [], [])
    rate, burst = quota.rate or 0.0, quota.burst
    tokens, at_ns, place = 0.0, evidence.window_ns[0], 0
    for record in sorted(account.refused, key=lambda one: one.sent_ns):
        while place < len(charged) and charged[place] <= record.sent_ns:
            tokens, at_ns = _refilled(tokens, rate, burst, charged[place] - at_ns) - 1, charged[place]
            place += 1
        if any(rules.policy(record).may_refuse for rules in evidence.timeline.during(record)):
            continue
        come = bisect_right(began, record.done_ns)
        in_flight = come - bisect_left(ended, record.sent_ns)
        if can.limits_concurrency and quota.concurrent is not None and in_flight >= quota.concurrent:
            continue
        left = _refilled(tokens, rate, burst, record.sent_ns - at_ns) - (come - place)
        if not can.limits_rates or quota.rate is None:
            yield _violation(record, f"was refused ({record.message[:80]!r}), with {in_flight} in flight at most")
        elif left >= 1 + SPARE_TOKENS:
            yield _violation(record, f"was refused ({record.message[:80]!r}), with {left:.1f} tokens left at least")


def _refilled(tokens: float, rate: float, burst: int, took_ns: int) -> float:
    return min(float(burst), tokens + rate * max(took_ns, 0) / 1e9)


def _admitted(record: Record, arrivals: Sequence[Arrival]) -> Admitted:
    first_ns = min(each.arrived_ns for each in arrivals)
    # A caller that has left is counted out before its model notices.
    stayed = (min(each.ended_ns, record.done_ns) for each in arrivals if each.status not in {"CANCELLED", ""})
    return Admitted(record, record.sent_ns - CLOCKS_NS, first_ns + CLOCKS_NS, max(stayed, default=first_ns))


def _too_fast(account: _Account, rate: float, burst: int) -> Iterator[Violation]:
    """Yields the admissions for which no token can have been there.

    Each must be served by a token between sending and arrival. Serving the one first that must be over first, as early
    as a token is there, serves all if anything does.
    """
    coming = sorted(account.admitted, key=lambda one: one.from_ns, reverse=True)
    waiting: list[tuple[int, int, Admitted]] = []
    tokens, now_ns = float(burst), 0
    while coming or waiting:
        if not waiting:
            next_ns = max(now_ns, coming[-1].from_ns)
            tokens, now_ns = _refilled(tokens, rate, burst, next_ns - now_ns), next_ns
        while coming and coming[-1].from_ns <= now_ns:
            each = coming.pop()
            heappush(waiting, (each.until_ns, each.record.sequence, each))
        if tokens < 1:
            next_ns = now_ns + round((1 - tokens) / rate * 1e9) + 1
            if coming:
                next_ns = min(next_ns, coming[-1].from_ns)
            tokens, now_ns = _refilled(tokens, rate, burst, next_ns - now_ns), next_ns
            continue
        until_ns, _, each = heappop(waiting)
        if until_ns < now_ns:
            message = f"was admitted over the rate of {account.name or 'no tenant'}: {rate:g} rps, {burst} at once"
            yield _violation(each.record, message)
        else:
            tokens -= 1


def _too_many(account: _Account, concurrent: int) -> Iterator[Violation]:
    """Yields the admissions that came while models had as many of the account as it may have."""
    ends: list[int] = []
    for each in sorted(account.admitted, key=lambda one: one.until_ns):
        arrived_ns = each.until_ns - CLOCKS_NS
        while ends and ends[0] <= arrived_ns:
            heappop(ends)
        if len(ends) >= concurrent:
            what = f"was admitted while models had {len(ends)} requests of {account.name or 'no tenant'}"
            yield _violation(each.record, f"{what}, which may have {concurrent} in flight")
        if each.ended_ns > arrived_ns:
            heappush(ends, each.ended_ns)


def _violation(record: Record, message: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, f"{request(record)} {message}")


CHECKER = Checker(
    name=NAME,
    question="Did tenants get what their limits allow, no more and no less?",
    subject="a limited tenant",
    claim=Claim.CORRECTNESS,
    check=check,
)
