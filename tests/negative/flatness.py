"""Memory and file descriptors of a lab's units over time: how fast they grow, with an interval."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil

from lab.lab import Lab

_EVERY_S = 2.0
_BLOCKS = 8
_FEWEST = 3 * _BLOCKS
_WARM_UP = 0.25
_T = 2.447  # Student's t for 95 %, with as many blocks less two
# What may come on top within the watched time before it counts as growth: share of the mean, and an absolute amount.
_SHARE = 0.05
_AMOUNT = {"MB": 3.0, "descriptors": 10.0}
EVIDENCE_MB = 138e-6
"""Of a request that a replica keeps as evidence, of 200,000 at most: models.stub.journal."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How one figure of one process of a unit moved.

    Attributes:
        what: ``MB`` or ``descriptors``.
        mean: of the time watched, after a warm-up.
        per_minute: slope.
        low: lower end of its 95 % interval, and ``high`` the upper one.
        minutes: watched.
    """

    unit: str
    what: str
    mean: float
    per_minute: float
    low: float
    high: float
    minutes: float

    @property
    def flat(self) -> bool | None:
        """Whether growth is excluded beyond what is allowed; None if it was watched for too short a time."""
        if not self.minutes:
            return None
        return self.low * self.minutes <= max(_SHARE * self.mean, _AMOUNT[self.what])


def trend(unit: str, what: str, seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """The slope of a series, by means of blocks: values in a row are alike, so each is no new evidence."""
    first = int(len(values) * _WARM_UP)
    at, y = np.asarray(seconds[first:]) / 60, np.asarray(values[first:], dtype=float)
    if len(values) < _FEWEST:
        return Trend(unit, what, float(np.mean(values)), 0.0, 0.0, 0.0, 0.0)
    x, means = (np.array([part.mean() for part in np.array_split(each, _BLOCKS)]) for each in (at, y))
    slope, intercept = map(float, np.polyfit(x, means, 1))
    left = means - (slope * x + intercept)
    half = _T * float(np.sqrt((left**2).sum() / (_BLOCKS - 2) / ((x - x.mean()) ** 2).sum()))
    return Trend(unit, what, float(y.mean()), slope, slope - half, slope + half, float(at[-1] - at[0]))


@dataclass(slots=True)
class Samples:
    """Series of (Unix seconds, MB, descriptors) of each process of each unit."""

    series: dict[tuple[str, int], list[tuple[float, float, int]]] = field(default_factory=dict)

    def take(self, lab: Lab) -> None:
        """Adds a sample of every unit that runs."""
        for unit in lab.status().units:
            try:
                process = psutil.Process(unit.pid)
                figures = (time.time(), process.memory_info().rss / 1e6, process.num_fds())
            except (psutil.Error, ValueError):
                continue
            self.series.setdefault((unit.name, unit.pid), []).append(figures)

    def trends(self, arrivals: Mapping[str, Sequence[float]]) -> list[Trend]:
        """Two of each unit, of its process that was watched longest.

        Args:
            arrivals: by replica, when it registered a request, Unix seconds. The evidence is bounded, and counts for no
                growth of memory.
        """
        found = []
        for unit in sorted({unit for unit, _ in self.series}):
            longest = max((rows for (name, _), rows in self.series.items() if name == unit), key=len)
            at, memory, descriptors = zip(*longest, strict=True)
            evidence = EVIDENCE_MB * np.searchsorted(np.sort(arrivals.get(unit, ())), at)
            found += [trend(unit, "MB", at, memory - evidence), trend(unit, "descriptors", at, descriptors)]
        return found


@contextmanager
def sampling(lab: Lab) -> Iterator[Samples]:
    """Samples all units while the block runs."""
    samples, done = Samples(), threading.Event()

    def sample() -> None:
        while not done.wait(_EVERY_S):
            samples.take(lab)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
