"""How each run went: answers and failures per second, and when revisions went out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.load.summary import OK
from lab.report.chart import Chart, Drawing, Line, Mark, draw
from lab.report.scales import linear

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.report.run import ReportedRun

NAME = "timeline"
TITLE = "Time line"

_NS = 1e9
_MOST_BINS = 60
_SHORTEST_BIN_S = 0.5  # at 100 requests per second, one has 50 ± 7


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course of one run.

    Attributes:
        bin_s: over how many seconds requests are counted.
        drawing: None if the run has sent nothing.
    """

    run: ReportedRun
    bin_s: float
    drawing: Drawing | None


def view(runs: Sequence[ReportedRun]) -> tuple[Timeline, ...]:
    """A chart a run."""
    return tuple(_timeline(run) for run in runs)


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[str, Drawing, str]]:
    """A time line a run."""
    for each in view(runs):
        if each.drawing:
            yield f"{NAME}-{each.run.number}", each.drawing, each.run.origin


def rates(times_s: Iterable[float], length_s: float, bins: int) -> list[tuple[float, float]]:
    """Events per second over time, as the corners of stairs.

    Args:
        times_s: of the events, 0 to ``length_s``.
        length_s: of all.
        bins: number of equal steps.
    """
    counts = [0] * bins
    for time in times_s:
        counts[min(bins - 1, int(time / length_s * bins))] += 1
    width = length_s / bins
    return [(edge * width, count / width) for number, count in enumerate(counts) for edge in (number, number + 1)]


def _timeline(run: ReportedRun) -> Timeline:
    sent = run.sent
    if not sent:
        return Timeline(run, 0.0, None)
    length = max((max(record.done_ns for record in sent) - run.start_ns) / _NS, 1e-3)
    bins = max(1, min(_MOST_BINS, math.floor(length / _SHORTEST_BIN_S)))
    answered, failed = (
        rates(((each.done_ns - run.start_ns) / _NS for each in sent if (each.status == OK) is good), length, bins)
        for good in (True, False)
    )
    chart = Chart(
        f"Answers and failures per second over time, run {run.label}",
        linear("seconds since the start", length, to_tick=False),
        linear("requests per second", max(rate for _, rate in answered + failed)),
        [Line("answered", run.style, answered), Line("failed", "failed", failed)],
        _marks(run, length),
    )
    return Timeline(run, length / bins, draw(chart))


def _marks(run: ReportedRun, length_s: float) -> list[Mark]:
    marks = []
    for each in run.rollouts:
        start = (each.from_ns - run.start_ns) / _NS
        end = length_s if each.until_ns is None else (each.until_ns - run.start_ns) / _NS
        if end >= 0 and start <= length_s:
            label = f"revision {each.revision} {'failed' if each.failed else 'goes out'}"
            marks.append(Mark(label, max(0.0, start), min(end, length_s)))
    return marks
