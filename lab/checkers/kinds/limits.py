"""Did tenants get what their limits allow, no more, and no less?"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import accumulate
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence, cluster_of
from lab.checkers.quota_use import Account, accounts_of, refilled, refused_too_early
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.history import Record

NAME = "limits"


def check(evidence: Evidence) -> Verdict | None:
    """Recomputes token buckets and requests in flight, by tenant, from what models received.

    - **Too much**: no assignment of admissions to times between sending and first arrival fits the bucket, which is
      full when the run begins. A limit that was changed, and a limiter that a fault hit, count as one more full bucket
      each. Requests that models have at the same time, those apart whose caller has left, are more than ``concurrent``.
      Limits are divided among the limiter's replicas, and each rounds its share up.
    - **Too little**: a unit refused a request although its share of the limit was not used up: its bucket, empty when
      the run began, had a token and one to spare, with every request of the tenant charged to it that may have come
      through it, as late as possible. Judged where nothing but the tenant's limit can refuse.
    - **Not theirs**: a model got a request for a tenant from a caller that may not name it, or under another tenant.

    Returns:
        None if the topology limits no tenants, or if no table limits a tenant of the run. Unknown if the replicas were
        not asked what they received.
    """
    can = evidence.abilities
    if not (can.limits_rates or can.limits_concurrency):
        return None
    accounts = accounts_of(evidence)
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
    early = refused_too_early(evidence)
    violations += [_violation(each, early[each.sequence]) for each in evidence.records if each.sequence in early]
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    shown = any(each.admitted or each.refused for each in accounts)
    return Verdict(NAME, Outcome.VALID if shown else Outcome.UNKNOWN, summary)


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


def _too_much(account: Account, evidence: Evidence) -> Iterator[Violation]:
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


def _too_fast(account: Account, rate: float, burst: int) -> Iterator[Violation]:
    """Yields the admissions for which no token can have been there.

    Each must be served by a token between sending and arrival. Where one has another's time within its own, it is not
    known which was served first, so the other's begins no later: then to serve them in the order in which they must be
    over, each as early as a token is there, serves all if anything does. To serve any other one early might use up the
    token that a later one needs, which has less time.
    """
    in_order = sorted(account.admitted, key=lambda one: (one.until_ns, one.record.sequence))
    begins = list(accumulate((each.from_ns for each in reversed(in_order)), min))[::-1]
    tokens, now_ns = float(burst), 0
    for each, from_ns in zip(in_order, begins, strict=True):
        then_ns = max(now_ns, from_ns)
        left = refilled(tokens, rate, burst, then_ns - now_ns)
        if left < 1:
            wait_ns = round((1 - left) / rate * 1e9) + 1
            left, then_ns = refilled(left, rate, burst, wait_ns), then_ns + wait_ns
        if then_ns > each.until_ns:
            message = f"was admitted over the rate of {account.name or 'no tenant'}: {rate:g} rps, {burst} at once"
            yield _violation(each.record, message)
        else:
            tokens, now_ns = left - 1, then_ns


def _too_many(account: Account, concurrent: int) -> Iterator[Violation]:
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
    blind="what a tenant could have got too much or too little of within the burst, and while other limits may refuse",
    subject="a limited tenant",
    claim=Claim.CORRECTNESS,
    check=check,
)
