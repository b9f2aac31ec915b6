"""The versions that a request may reach, and the reasons for each attempt at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.checkers.evidence import CLOCKS_NS, Abilities, FaultWindow
from lab.checkers.extra_attempts import Owed
from lab.checkers.plain_policy import FALLS_BACK
from lab.history.arrivals import header_places

if TYPE_CHECKING:
    from lab.checkers.revision_timeline import Rules
    from lab.history import Record
    from lab.history.arrivals import Arrival

EARLY_NS = 20_000_000
"""Time by which a timeout may come too early, besides the driver's largest schedule delay meanwhile: timers and
deadlines on the wire have milliseconds, and are rounded. A loop that waited for a processor sets its timers by the time
at which its turn began, so they end early by as much. The failure itself is judged by *answered*."""

TEAR = "FAILED_PRECONDITION"

LOST = frozenset({"CANCELLED", ""})
"""Statuses of a request whose connection ended, or of which it is not known how it ended."""

_FEWER = "x-retries-left"
"""Header of a request whose caller has allowed fewer retries than the table."""

_MS = 1_000_000
_TIMER_LATE_NS = 100_000_000  # a busy proxy's timers fire late


class VersionPath:
    """The versions that one request may reach by one revision, in order; ``seen``: no attempt at them is missing."""

    def __init__(self, rules: Rules, record: Record, met: Sequence[FaultWindow], *, seen: bool) -> None:
        self._clusters = rules.versions(record)
        self._keys = list(self._clusters)
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
        if not statuses & (FALLS_BACK | LOST):
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
            failed = last.status in FALLS_BACK or (last.status in LOST and bool(self._met))
            if failed or after_ns >= policy.hedge_after_s * 1e9:
                return "hedge"
            return f"!a hedge after {after_ns // _MS} ms; the table says {policy.hedge_after_s * 1e3:g} ms"
        late = policy.per_try_s and after_ns >= policy.per_try_s * 1e9
        if last.status in policy.on or (last.status in LOST and ("UNAVAILABLE" in policy.on or late)):
            return "retry"
        if last.status in {"DEADLINE_EXCEEDED", "OK"} and late:  # an answer may be on its way when the time is over
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
            allowed = made < policy.attempts and _FEWER not in header_places(last.headers)
            if (following and following.routing_key == key) or not allowed:
                continue
            until_ns = following.arrived_ns if following else record.done_ns
            if policy.hedge_after_s is None:
                in_time = until_ns - record.sent_ns < self._rules.timeout_ns(record.use_case) - EARLY_NS
                gave_up = following or record.status in FALLS_BACK or record.source == "default"
                if can.retries and last.status in policy.on and in_time and gave_up:
                    what = f"{key} ended it with {last.status}; attempt {made + 1} was never made"
                    yield Owed(record, policy, key, last.ended_ns or last.arrived_ns, until_ns, what)
            elif can.hedges and is_longer(last, policy.hedge_after_s, delay_ns):
                what = f"{key} took {(last.ended_ns - last.arrived_ns) // _MS} ms; no second attempt began beside it"
                yield Owed(record, policy, key, last.arrived_ns, last.ended_ns, what)

    def _skipped(self, start: int, end: int) -> str:
        """Returns the first version between two places that had no reason to be skipped; empty if each had one.

        Reasons: a marked fault that may cut off its cluster, or an attempt at it may not have been seen.
        """
        for place in range(start, end):
            cluster = self._clusters[self._keys[place]]
            hit = any(each.closes and each.hits(cluster) for each in self._met)
            if not hit and self.seen:
                return self._keys[place]
        return ""


def is_longer(attempt: Arrival, limit_s: float, delay_ns: int) -> bool:
    """Whether an attempt outlasted a proxy's timer, even one that fires late."""
    return attempt.ended_ns - attempt.arrived_ns > round(2e9 * limit_s) + _TIMER_LATE_NS + delay_ns
