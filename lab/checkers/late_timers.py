"""What comes late, or early, each time: a busy machine delays some, a wrong timer delays all.

Limits of requests and attempts, hedges, items of streams, the better of two hedged answers, pauses before retries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record
    from lab.history.arrivals import Arrival

LEAST = 10
"""Timers of a kind, and answers beside them, below which nothing is said."""

LEAST_PAUSES = 20
"""Pauses below which nothing is said: that one of random length is short is no rarity."""

TABLE = "the table says {} ms"

_SLACK_NS = 50_000_000
_USUAL = 3
_SHORT = 0.3
_MS = 1_000_000


class LateTimers:
    """Timers of a run by what they limit and their limit.

    Args:
        evidence: of the run.
        arrivals: what models received, by request id.
    """

    def __init__(self, evidence: Evidence, arrivals: Mapping[str, Sequence[Arrival]]) -> None:
        self._evidence, self._arrivals = evidence, arrivals
        self._seen: defaultdict[tuple[str, int, str], list[tuple[Record, int]]] = defaultdict(list)
        self._pauses: defaultdict[int, list[tuple[Record, int]]] = defaultdict(list)
        self._streams: list[tuple[Record, int, int]] = []

    def saw(self, what: str, limit_ns: int, took_ns: int, record: Record, *, reason: str = TABLE) -> None:
        """Notes that a timer of a request fired after this time; the reason says why it had to after the limit."""
        self._seen[what, limit_ns, reason].append((record, took_ns))

    def paused(self, most_ns: int, took_ns: int, record: Record) -> None:
        """Notes the pause before a retry, which is drawn from 0 to ``most_ns``."""
        self._pauses[most_ns].append((record, took_ns))

    def short(self) -> Iterator[tuple[Record, str]]:
        """Yields the retries of each kind of which three in four came within 0.3 of its longest pause, in words.

        One that waits for a processor comes late, with a pause or without.
        """
        for most_ns, seen in self._pauses.items():
            bound_ns = _SHORT * most_ns
            if len(seen) < LEAST_PAUSES or sorted(took_ns for _, took_ns in seen)[len(seen) * 3 // 4] >= bound_ns:
                continue
            for record, took_ns in seen:
                if took_ns < bound_ns:
                    came = f"a retry came after {took_ns / _MS:.1f} ms, and most others as early"
                    yield record, f"{came}; the table says up to {most_ns // _MS} ms"

    def streamed(self, over_ns: int, took_ns: int, record: Record) -> None:
        """Notes the time from a stream's first item to its last, which its model sent over ``over_ns``."""
        self._streams.append((record, over_ns, took_ns))

    def at_once(self) -> Iterator[tuple[Record, str]]:
        """Yields the streams whose items came together, if three in four streams are such, in words.

        Together is within 0.3 of the time over which the model sent them. Streams that took less than twice what
        requests usually take beside the model's own time show nothing.
        """
        usual_ns = self._usual_ns
        visible = [each for each in self._streams if usual_ns is not None and each[1] >= 2 * usual_ns]
        together = [each for each in visible if each[2] < _SHORT * each[1]]
        if len(visible) < LEAST or 4 * len(together) < 3 * len(visible):
            return
        for record, over_ns, took_ns in together:
            came = f"a stream's items came within {took_ns / _MS:.1f} ms, as those of most others did"
            yield record, f"{came}; its model sent them over {over_ns // _MS} ms"

    def late(self) -> Iterator[tuple[Record, str]]:
        """Yields the timers of each kind of which three in four fired late, in words.

        Late is later than the limit, 50 ms, and three times what requests usually take beside the model's own time.
        """
        for (what, limit_ns, reason), seen in self._seen.items():
            if len(seen) < LEAST or self._usual_ns is None:
                continue
            bound_ns = limit_ns + _SLACK_NS + _USUAL * self._usual_ns
            if sorted(took_ns for _, took_ns in seen)[len(seen) // 4] <= bound_ns:
                continue
            for record, took_ns in seen:
                if took_ns > bound_ns:
                    yield (
                        record,
                        f"{what} after {took_ns // _MS} ms, as most others did; {reason.format(limit_ns // _MS)}",
                    )

    @cached_property
    def _usual_ns(self) -> int | None:
        """What three in four answers took at most beside their model's time; None if too few show it."""
        found = sorted(
            record.done_ns - record.sent_ns - (its[0].ended_ns - its[0].arrived_ns)
            for record in self._evidence.records
            if record.status == "OK" and not record.streamed
            if len(its := self._arrivals.get(record.request_id, ())) == 1 and its[0].ended_ns
        )
        return found[len(found) * 3 // 4] if len(found) >= LEAST else None
