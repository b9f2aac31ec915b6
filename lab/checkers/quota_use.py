"""What requests use of their tenants' quotas, and which refusals no quota explains."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.evidence import CLOCKS_NS, Evidence
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Quota
    from lab.history.arrivals import Arrival

SPARE_TOKENS = 1.0
"""Tokens that must be left, besides the one that a request needs, before its refusal counts as wrong."""

LEAST_OF_SMALL = 3
"""Refusals by a bucket that cannot hold so many, each long after it must have been full, before they count as wrong: a
charge that nobody saw explains one of them."""

OTHERS_NS = 1_000_000_000
"""How much earlier and later than its model a limiter may have had a request of another caller."""

_NEVER_NS = 1 << 62
_REFUSED = "RESOURCE_EXHAUSTED"


class Admitted(NamedTuple):
    """A request that passed its tenant's limits, at some time between its sending and its first arrival at a model."""

    record: Record
    from_ns: int
    until_ns: int
    ended_ns: int  # until when models had it


@dataclass
class Account:
    """The requests of a run that count together.

    Attributes:
        name: tenant, or in words which.
        quotas: the different limits that were in force for it during the run; None among them: there was none.
        admitted: requests that models received.
        refused: requests that were refused for a limit, as far as no model did it, and nothing else explains it.
        unclear: requests that no model received, and that failed with something else.
        others: what models received of requests by other callers, or of other runs, by request.
    """

    name: str
    quotas: Sequence[Quota | None]
    admitted: list[Admitted] = field(default_factory=list)
    refused: list[Record] = field(default_factory=list)
    unclear: list[Record] = field(default_factory=list)
    others: list[Sequence[Arrival]] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The counts in words."""
        return f"{self.name or 'no tenant'}: {len(self.admitted)} admitted, {len(self.refused)} refused"


def accounts_of(evidence: Evidence) -> list[Account]:
    """Returns the limited accounts of a run, each with its requests."""
    by_tenant: dict[str, Account] = {}
    by_name: dict[str, Account] = {}
    for tenant in dict.fromkeys(record.tenant for record in evidence.records):
        quotas = list(dict.fromkeys(evidence.quota(rules, tenant) for rules in evidence.timeline.rules))
        limited = [each for each in quotas if each is not None]
        if limited:
            name = limited[0].account
            by_tenant[tenant] = by_name.setdefault(name, Account(name, quotas))
    own = set()
    for record in evidence.records:
        own.add(record.request_id)
        account = by_tenant.get(record.tenant)
        if account is None or record.status == UNSENT:
            continue
        if its := evidence.attempts.get(record.request_id):
            account.admitted.append(_admitted(record, its))
        else:
            is_refused = record.status == _REFUSED and record.request_id not in evidence.explained
            (account.refused if is_refused else account.unclear).append(record)
    for request_id, its in evidence.attempts.items():
        if request_id not in own and (account := by_tenant.get(its[0].tenant)) is not None:
            account.others.append(its)
    return list(by_name.values())


def _admitted(record: Record, arrivals: Sequence[Arrival]) -> Admitted:
    first_ns = min(each.arrived_ns for each in arrivals)
    # A caller that has left is counted out before its model notices.
    stayed = (min(each.ended_ns, record.done_ns) for each in arrivals if each.status not in {"CANCELLED", ""})
    return Admitted(record, record.sent_ns - CLOCKS_NS, first_ns + CLOCKS_NS, max(stayed, default=first_ns))


def refilled(tokens: float, rate: float, burst: float, took_ns: int) -> float:
    """Returns the tokens of a bucket some time later."""
    return min(burst, tokens + rate * max(took_ns, 0) / 1e9)


def refused_too_early(evidence: Evidence, *, fallbacks: bool = False) -> dict[int, str]:
    """Returns the refusals that no used-up share of a quota explains, by sequence number, in words.

    Args:
        evidence: of the run.
        fallbacks: asks the same of answers by a fallback, as if a unit had refused their first attempts.
    """
    if evidence.arrivals is None or evidence.window_ns is None:
        return {}
    found: dict[int, str] = {}
    for account in accounts_of(evidence):
        by_unit: defaultdict[str, list[Record]] = defaultdict(list)
        for record in account.refused:
            by_unit[refused_by(record, evidence.abilities.between)].append(record)
        if fallbacks:
            by_unit[""] += [each.record for each in account.admitted if each.record.source == "fallback"]
        for unit, refused in by_unit.items():
            found.update((each.sequence, message) for each, message in _too_early(account, unit, refused, evidence))
    return found


def refused_by(record: Record, roles: Sequence[str]) -> str:
    """Returns the unit that refused a request, by its own word: ``… (gateway gateway-1)``; empty without one."""
    named = re.search(rf"\((?:{'|'.join(map(re.escape, roles))}) ([\w-]+)\)", record.message) if roles else None
    return named[1] if named else ""


def _may_have_passed(unit: str, arrivals: Sequence[Arrival], roles: Sequence[str]) -> bool:
    """Whether a request may have come through a unit: unless its path names another one of the same role."""
    named = {name for each in arrivals for name in re.findall(r"[\w-]+", each.via) if name.rpartition("-")[0] in roles}
    return not unit or not named or unit in named


def _too_early(
    account: Account, unit: str, refused: Sequence[Record], evidence: Evidence
) -> Iterator[tuple[Record, str]]:
    """Yields the refusals by a unit while its share was not used up, neither the rate's nor that of requests in flight.

    The unit's bucket was empty when the run began. Every request that may have come through it is charged to it, as
    late as possible, and counted as in flight for as long as possible.
    """
    [quota, *changed] = account.quotas
    if quota is None or changed or (account.others and evidence.arrival_gaps):
        return
    share = _Share(quota, _uses(account, unit, evidence), evidence)
    wrong = [
        (record, f"was refused {f'by {unit} ' if unit else ''}({record.message[:80]!r}), with {left}")
        for record in sorted(refused, key=lambda one: one.sent_ns)
        if (left := share.left(record))
        and not any(rules.policy(record).may_refuse for rules in evidence.timeline.during(record))
        and not any(each.closes and each.met(record) for each in evidence.fault_windows)
    ]
    if not share.is_small or len(wrong) >= LEAST_OF_SMALL:
        yield from wrong


class _Share:
    """One limiter's share of a quota.

    Args:
        quota: of all limiters.
        uses: see :func:`_uses`.
        evidence: of the run.

    Attributes:
        is_small: whether its bucket cannot hold a token to spare; then it must have been full for the time of one.
    """

    def __init__(self, quota: Quota, uses: Sequence[list[int]], evidence: Evidence) -> None:
        can, self._uses = evidence.abilities, uses
        self._rate = quota.rate / can.limiters if can.limits_rates and quota.rate is not None else None
        self._concurrent = quota.concurrent // can.limiters if can.limits_concurrency and quota.concurrent else None
        burst = quota.burst // can.limiters
        self.is_small = self._rate is not None and burst < 1 + SPARE_TOKENS
        self._size = burst + SPARE_TOKENS * self.is_small
        self._tokens, self._at_ns, self._charges = 0.0, (evidence.window_ns or (0, 0))[0], 0

    def left(self, record: Record) -> str:
        """Returns what was left of the share for a request, in words; empty if it may have been used up.

        Requests must come in the order in which they were sent.
        """
        began, charged, ended = self._uses
        come = bisect_right(began, record.done_ns)
        in_flight = come - bisect_left(ended, record.sent_ns)
        if self._concurrent is not None and in_flight >= self._concurrent:
            return ""
        if self._rate is None:
            return f"{in_flight} in flight at most"
        while self._charges < len(charged) and charged[self._charges] <= record.sent_ns:
            self._tokens = self._tokens_at(charged[self._charges]) - 1
            self._at_ns = charged[self._charges]
            self._charges += 1
        left = self._tokens_at(record.sent_ns) - (come - self._charges)
        surely = left - SPARE_TOKENS * self.is_small
        return f"{surely:.1f} tokens left at least" if left >= 1 + SPARE_TOKENS else ""

    def _tokens_at(self, now_ns: int) -> float:
        return refilled(self._tokens, self._rate or 0.0, self._size, now_ns - self._at_ns)


def _uses(account: Account, unit: str, evidence: Evidence) -> Sequence[list[int]]:
    """Returns when requests that may have come through a unit began, were charged at the latest, and ended at most."""
    roles, uses = evidence.abilities.between, []
    for each in account.admitted:
        if _may_have_passed(unit, evidence.attempts[each.record.request_id], roles):
            uses += [(each.from_ns, each.until_ns, each.record.done_ns)] * max(1, each.record.attempts)
    uses += [(each.sent_ns, each.done_ns, each.done_ns) for each in account.unclear]
    for its in account.others:
        if _may_have_passed(unit, its, roles):
            arrived_ns = [each.arrived_ns for each in its]
            ended_ns = max(each.ended_ns for each in its) if all(each.ended_ns for each in its) else _NEVER_NS
            uses += [(min(arrived_ns) - OTHERS_NS, max(arrived_ns) + OTHERS_NS, ended_ns + OTHERS_NS)]
    return [sorted(times) for times in zip(*uses, strict=True)] if uses else ([], [], [])
