"""What the page needs of requests, a quarter of a second at a time: counts, edges, latencies and a few examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log
from typing import TYPE_CHECKING, Any

from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.plugins.console.drawing import Drawing, Hops

TICK_NS = 250_000_000
"""Length of one interval."""

KEPT_TICKS = 2_400
"""Intervals of a topology that a live page keeps, ten minutes: it may stay open for days."""

_AT_ONCE = 40  # older intervals go ten seconds at a time, as each look at them takes as long

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
    """Adds up records of several topologies.

    Args:
        kept: number of intervals before the newest that remain, of each topology; all if None.
    """

    def __init__(self, kept: int | None = None) -> None:
        self._kept = kept
        self._intervals: dict[tuple[str, int], Interval] = defaultdict(Interval)
        self._changed: set[tuple[str, int]] = set()
        self._newest: dict[str, int] = {}
        self._until: dict[str, int] = {}  # the newest interval of those that are not kept
        self._older: dict[str, Counter[str]] = defaultdict(Counter)
        self._later: set[str] = set()  # topologies to whose older intervals something was added since

    def add(self, records: Iterable[Record], drawings: Mapping[str, Drawing], down: Collection[str] = ()) -> None:
        """Adds records of topologies that are drawn; ``down`` as of :meth:`Drawing.hops`."""
        for record in records:
            if record.topology in drawings and record.status != UNSENT:
                self._add(record, drawings[record.topology].hops(record, down))

    def _add(self, record: Record, hops: Hops) -> None:
        key = topology, tick = record.topology, record.done_ns // TICK_NS
        if tick <= self._until.get(topology, -1):
            self._older[topology][record.status] += 1
            self._later.add(topology)
            return
        self._newest[topology] = max(tick, self._newest.get(topology, tick))
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

    def take_older(self) -> tuple[dict[str, Any], list[str]]:
        """Forgets intervals that are too old.

        Returns:
            By topology, the newest interval of those that have gone and the statuses of all of them, where that has
            changed; and which have gone, as :meth:`take_changed` names them.
        """
        gone = []
        for topology, newest in self._newest.items():
            if self._kept is None:
                break
            if newest - self._until.setdefault(topology, newest - self._kept - 1) <= self._kept + _AT_ONCE:
                continue
            self._until[topology] = newest - self._kept
            gone += [each for each in self._intervals if each[0] == topology and each[1] <= self._until[topology]]
            self._later.add(topology)
        for key in gone:
            self._older[key[0]].update(self._intervals.pop(key).statuses)
            self._changed.discard(key)
        later, self._later = self._later, set()
        documents = {name: {"until": self._until[name], "s": dict(self._older[name])} for name in later}
        return documents, [f"{topology}/{tick}" for topology, tick in gone]
