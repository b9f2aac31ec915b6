"""What the page needs of requests, a quarter of a second at a time: counts, edges, latencies and a few examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log
from typing import TYPE_CHECKING, Any

from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.console.drawing import Drawing, Hops

TICK_NS = 250_000_000
"""Length of one interval."""

BIN = 1.02
"""Ratio between the bounds of a bin of latencies: a percentile is at most 2 % too high."""

EXAMPLES = 6
"""Requests of one interval and topology that the page can show one by one; failed ones come first."""

_LEAST_MS = 0.01


def bin_of(latency_ms: float) -> int:
    """The bin of a latency; its upper bound is ``0.01 ms * BIN ** (bin + 1)``."""
    return floor(log(max(latency_ms, _LEAST_MS) / _LEAST_MS) / log(BIN))


@dataclass(slots=True)
class Interval:
    """The requests of one topology that ended within one interval.

    Attributes:
        statuses: number of requests by status.
        edges: of each edge, answered and failed requests, and those that another than the wanted cluster answered.
        copies: number of shadow copies by edge.
        callers: of each caller, answered and failed requests.
        latencies: number of answered requests by bin, from their intended times, without streams.
        examples: request id, whether it was answered, and its edges.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    edges: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    copies: Counter[str] = field(default_factory=Counter)
    callers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    latencies: Counter[int] = field(default_factory=Counter)
    examples: list[tuple[str, int, list[str]]] = field(default_factory=list)

    def to_document(self) -> dict[str, Any]:
        """It as JSON, with short keys, as there are thousands."""
        return {
            "s": dict(self.statuses),
            "e": {edge: list(counts) for edge, counts in self.edges.items()},
            "c": dict(self.copies),
            "w": {caller: list(counts) for caller, counts in self.callers.items()},
            "l": {str(each): count for each, count in self.latencies.items()},
            "x": list(self.examples),
        }


class Traffic:
    """Adds up records of several topologies."""

    def __init__(self) -> None:
        self._intervals: dict[tuple[str, int], Interval] = defaultdict(Interval)
        self._changed: set[tuple[str, int]] = set()

    def add(self, records: Iterable[Record], drawings: Mapping[str, Drawing], down: Collection[str] = ()) -> None:
        """Adds records of topologies that are drawn; ``down`` as of :meth:`lab.console.drawing.Drawing.hops`."""
        for record in records:
            if record.topology in drawings and record.status != UNSENT:
                self._add(record, drawings[record.topology].hops(record, down))

    def _add(self, record: Record, hops: Hops) -> None:
        key = (record.topology, record.done_ns // TICK_NS)
        self._changed.add(key)
        interval = self._intervals[key]
        answered = record.status == "OK"
        interval.statuses[record.status] += 1
        interval.callers[record.caller][not answered] += 1
        if answered and not record.streamed:
            interval.latencies[bin_of((record.done_ns - record.intended_ns) / 1e6)] += 1
        for edge in hops.taken:
            failed = not answered and edge == hops.taken[-1]
            interval.edges[edge][failed] += 1
        if hops.wanted:
            interval.edges[hops.wanted][2] += 1
        if hops.copy:
            interval.copies[hops.copy] += 1
        example = (record.request_id, int(answered), list(hops.taken))
        if len(interval.examples) < EXAMPLES:
            interval.examples.append(example)
        elif not answered and (spare := next((n for n, each in enumerate(interval.examples) if each[1]), -1)) >= 0:
            interval.examples[spare] = example

    def take_changed(self) -> dict[str, dict[str, Any]]:
        """Each interval that has changed since the last call, by ``topology/number``."""
        changed, self._changed = self._changed, set()
        return {f"{topology}/{tick}": self._intervals[topology, tick].to_document() for topology, tick in changed}
