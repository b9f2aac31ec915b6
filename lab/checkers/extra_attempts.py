"""Retries and hedges against their budget: none that it cannot have granted, and none left out that it must have.

A limiter grants an extra attempt while fewer than ``at_least`` are in flight, or fewer than a share of all attempts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import floor
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.evidence import CLOCKS_NS, Evidence

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Policy
    from lab.history import Record
    from lab.history.arrivals import Arrival

_RELEASE_NS = 50_000_000
"""A limiter may take a part of the budget, or give it back, this much earlier or later than models and callers show."""
_OTHERS_NS = 1_000_000_000
"""The same for requests of other callers, of which only the models show when they ended."""


class Extra(NamedTuple):
    """An attempt that a budget must have granted, between the end of the one before and its arrival."""

    record: Record
    policy: Policy
    key: str
    from_ns: int
    arrived_ns: int
    ended_ns: int


class Owed(NamedTuple):
    """An attempt that was due in this time and that no model received; in words, what is missing."""

    record: Record
    policy: Policy
    key: str
    from_ns: int
    until_ns: int
    message: str


class ExtraAttempts:
    """All extra attempts of a run, made and owed.

    Args:
        evidence: of the run.
        arrivals: what models received, by request id.
    """

    def __init__(self, evidence: Evidence, arrivals: Mapping[str, Sequence[Arrival]]) -> None:
        self.made: list[Extra] = []
        self.owed: list[Owed] = []
        self._evidence, self._arrivals, self._can = evidence, arrivals, evidence.abilities
        self._records = {record.request_id: record for record in evidence.records}

    def over_budget(self) -> Iterator[tuple[Record, str]]:
        """Yields the extra attempts that no budget can have granted, in words."""
        if not self._can.budgets_retries:
            return
        by_key: defaultdict[str, list[Extra]] = defaultdict(list)
        for each in self.made:
            by_key[each.key].append(each)
        for key, extras in by_key.items():
            flights = _InFlight(self._records, self._arrivals, key)
            began = sorted(each.arrived_ns for each in extras)
            ended = sorted(each.ended_ns for each in extras)
            for each in extras:
                now_ns = each.arrived_ns
                under_way = bisect_right(began, now_ns) - bisect_right(ended, now_ns)
                others = flights.between(each.from_ns - CLOCKS_NS, now_ns + CLOCKS_NS)
                allowed = self._can.limiters * each.policy.at_least + floor(each.policy.share * others)
                if under_way > allowed:
                    message = (
                        f"{under_way} extra attempts at {key} in flight at once; the budget allows {allowed} beside "
                        f"{others} requests"
                    )
                    yield each.record, message

    def never_made(self) -> Iterator[tuple[Record, str]]:
        """Yields the extra attempts that were due and that no limiter can have refused, in words."""
        for each in self.owed:
            budgeted = self._can.budgets_retries or each.policy.hedge_after_s is not None
            if not budgeted or self._most_beside(each) < each.policy.at_least:
                yield each.record, each.message

    def _most_beside(self, owed: Owed) -> int:
        """How many other extra attempts may have been in flight when this one was due."""
        return sum(
            request_id != owed.record.request_id and began_ns <= owed.until_ns and ended_ns >= owed.from_ns
            for request_id, began_ns, ended_ns in self._holders.get(owed.key, ())
        )

    @cached_property
    def _holders(self) -> Mapping[str, Sequence[tuple[str, int, int]]]:
        """By routing key: the requests that may have had an extra attempt in flight, from when and until when."""
        found: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        for request_id, arrivals in self._arrivals.items():
            record, times = self._records.get(request_id), Counter(each.routing_key for each in arrivals)
            # One more attempt may have been granted that reached no model.
            unseen = record is not None and (record.attempts > 1 or record.status == "DEADLINE_EXCEEDED")
            for key in times if unseen else [key for key in times if times[key] > 1]:
                here = [each for each in arrivals if each.routing_key == key]
                last_ns = max(each.ended_ns or each.arrived_ns for each in here) + _OTHERS_NS
                began_ns, ended_ns = min(each.arrived_ns for each in here), record.done_ns if record else last_ns
                found[key].append((request_id, began_ns - _RELEASE_NS, ended_ns + _RELEASE_NS))
        return found


class _InFlight:
    """The requests in flight to a key, from sending to answer; those of other callers while models had them."""

    def __init__(self, records: Mapping[str, Record], arrivals: Mapping[str, Sequence[Arrival]], key: str) -> None:
        spans = [
            (record.sent_ns, record.done_ns)
            for record in records.values()
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
