"""Timers that fire late each time: a busy machine delays some, a wrong limit delays all."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.checkers.evidence import Evidence
    from lab.history import Record
    from lab.history.arrivals import Arrival

LEAST = 10
"""Timers of a kind, and answers beside them, below which nothing is said."""

_SLACK_NS = 50_000_000
_USUAL = 3
_MS = 1_000_000


class LateTimers:
    """Timers of a run by what they limit and their limit.

    Args:
        evidence: of the run.
        arrivals: what models received, by request id.
    """

    def __init__(self, evidence: Evidence, arrivals: Mapping[str, Sequence[Arrival]]) -> None:
        self._evidence, self._arrivals = evidence, arrivals
        self._seen: defaultdict[tuple[str, int], list[tuple[Record, int]]] = defaultdict(list)

    def saw(self, what: str, limit_ns: int, took_ns: int, record: Record) -> None:
        """Notes that a timer of a request fired after this time."""
        self._seen[what, limit_ns].append((record, took_ns))

    def late(self) -> Iterator[tuple[Record, str]]:
        """Yields the timers of each kind of which three in four fired late, in words.

        Late is later than the limit, 50 ms, and three times what requests usually take beside the model's own time.
        """
        for (what, limit_ns), seen in self._seen.items():
            if len(seen) < LEAST or self._usual_ns is None:
                continue
            bound_ns = limit_ns + _SLACK_NS + _USUAL * self._usual_ns
            if sorted(took_ns for _, took_ns in seen)[len(seen) // 4] <= bound_ns:
                continue
            for record, took_ns in seen:
                if took_ns > bound_ns:
                    yield (
                        record,
                        f"{what} after {took_ns // _MS} ms, as most others did; the table says {limit_ns // _MS} ms",
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
