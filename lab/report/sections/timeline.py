"""The course of each run: answers, failures and latency over time, with events and rollouts.

A scenario's run also shows the scenario's steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.report.chart import Chart, Line, Mark
from lab.report.scales import Scale, linear, logarithmic
from lab.runs.events import Event, undone_ns

if TYPE_CHECKING:
    import numpy.typing as npt

    from lab.report.run import ReportedRun

_NS = 1e9
_MOST_BINS = 60
_SHORTEST_BIN_S = 0.5  # at 100 requests per second, one has 50 ± 7
_LEAST_MS = 1e-3  # a logarithmic axis has no 0
_PANEL = 80  # pixels, of a plot
_LONGEST = 40  # characters of a comment


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course of one run.

    Attributes:
        bin_s: width of a bin, s.
        rates: answers and failures per second; None if the run sent nothing.
        latency: of the requests due in each bin, likewise.
    """

    run: ReportedRun
    bin_s: float
    rates: Chart | None
    latency: Chart | None


def view(runs: Sequence[ReportedRun]) -> tuple[Timeline, ...]:
    """Two charts for each run."""
    return tuple(_timeline(run) for run in runs)


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[Chart, str]]:
    """Both charts of each run."""
    for each in view(runs):
        yield from ((chart, each.run.origin) for chart in (each.rates, each.latency) if chart)


def rates(times_s: npt.ArrayLike, length_s: float, bins: int) -> list[tuple[float, float]]:
    """Events per second over time, as the corners of a step line.

    Args:
        times_s: of the events, 0 to ``length_s``.
        length_s: of the run.
        bins: number of equal steps.
    """
    counts, _ = np.histogram(times_s, bins=bins, range=(0, length_s))
    width = length_s / bins
    heights = (float(count) / width for count in counts)
    return [(edge * width, height) for number, height in enumerate(heights) for edge in (number, number + 1)]


def _timeline(run: ReportedRun) -> Timeline:
    if not run.sent:
        return Timeline(run, 0.0, None, None)
    done_s = (run.history.numbers("done_ns")[run.rows_sent] - run.start_ns) / _NS
    due_s = (run.history.numbers("intended_ns")[run.rows_timed] - run.start_ns) / _NS
    is_ok = run.is_ok[run.rows_sent]
    length = max(float(done_s.max()), 1e-3)
    bins = max(1, min(_MOST_BINS, math.floor(length / _SHORTEST_BIN_S)))
    marks = [*marks_of_events(run, length), *_marks_of_rollouts(run, length)]
    answered, failed = (rates(done_s[is_ok == good], length, bins) for good in (True, False))
    x = linear("seconds since the start", length, to_tick=False)
    chart = Chart(
        f"Answers and failures per second over time, run {run.label}",
        x,
        linear("requests per second", max(rate for _, rate in answered + failed)),
        [Line("answered", run.colour, answered), Line("failed", "failed", failed)],
        marks,
        name=f"timeline-{run.number}",
    )
    latency = _latency(run, due_s, length / bins, x, marks) if due_s.size else None
    return Timeline(run, length / bins, chart, latency)


def panels(runs: Sequence[ReportedRun]) -> list[Chart]:
    """A small chart for each of several runs of the same time, on the same scales: answers and failures per second."""
    sent = [run for run in runs if run.sent]
    start_ns = min((run.start_ns for run in sent), default=0)
    done_s = [(run.history.numbers("done_ns")[run.rows_sent] - start_ns) / _NS for run in sent]
    length = max((float(each.max()) for each in done_s), default=0.0)
    bins = max(1, min(_MOST_BINS, math.floor(length / _SHORTEST_BIN_S)))
    found = []
    for run, each in zip(sent, done_s, strict=True):
        answered, failed = (rates(each[run.is_ok[run.rows_sent] == good], length, bins) for good in (True, False))
        found.append((run, answered, failed))
    most = max((rate for _, answered, failed in found for _, rate in answered + failed), default=0.0)
    return [
        Chart(
            f"{run.plan.caller} over {run.plan.topology}: {run.result.counts}",
            linear("seconds since the start" if run is sent[-1] else "", length, to_tick=False),
            linear("per second", most),
            [Line("answered", run.colour, answered), Line("failed", "failed", failed)],
            marks_of_events(replace(run, start_ns=start_ns), length),
            name=f"panel-{run.number}",
            height=_PANEL,
        )
        for run, answered, failed in found
    ]


def _latency(run: ReportedRun, due_s: npt.NDArray[np.float64], bin_s: float, x: Scale, marks: Sequence[Mark]) -> Chart:
    """The median and the maximum of the requests due in each bin; a bin without any breaks the lines."""
    which = (due_s / bin_s).astype(np.int64)  # ascending, as requests are sorted by due time
    edges = np.flatnonzero(np.diff(which, prepend=-1))
    ends = np.append(edges[1:], len(which))
    middle: list[tuple[float, float]] = []
    worst: list[tuple[float, float]] = []
    for first, last in zip(edges, ends, strict=True):
        at = (float(which[first]) + 0.5) * bin_s
        if middle and at - middle[-1][0] > 1.5 * bin_s:
            middle.append((at - bin_s, math.nan))
            worst.append((at - bin_s, math.nan))
        values = np.maximum(run.latencies_ms[first:last], _LEAST_MS)
        middle.append((at, float(np.median(values))))
        worst.append((at, float(values.max())))
    return Chart(
        f"Latency of answers over when requests were due, run {run.label}",
        x,
        logarithmic("latency, ms", np.nanmin(middle, axis=0)[1], np.nanmax(worst, axis=0)[1]),
        [Line("p50", run.colour, middle), Line("max", "failed", worst)],
        marks,
        name=f"timeline-latency-{run.number}",
    )


def marks_of_events(run: ReportedRun, length_s: float) -> list[Mark]:
    """Events during the run, each from its start to its end, or until it was undone if it can be."""
    marks = []
    for event in run.events:
        start = (event.from_ns - run.start_ns) / _NS
        undone = undone_ns(event, run.events)
        end = length_s if event.undone_by and undone is None else ((undone or event.until_ns) - run.start_ns) / _NS
        if _undoes(event, run.events):
            continue  # it ends the span of what it undoes
        if end >= 0 and start <= length_s:
            marks.append(Mark(event.text, min(max(0.0, start), length_s), max(0.0, min(end, length_s))))
    return marks


def _undoes(undoing: Event, events: Sequence[Event]) -> bool:
    return any(
        event.undone_by == undoing.kind and event.target == undoing.target and event.from_ns <= undoing.from_ns
        for event in events
    )


def _marks_of_rollouts(run: ReportedRun, length_s: float) -> list[Mark]:
    marks = []
    for each in run.rollouts:
        start = (each.from_ns - run.start_ns) / _NS
        end = length_s if each.until_ns is None else (each.until_ns - run.start_ns) / _NS
        if end >= 0 and start <= length_s:
            label = f"revision {each.revision} {'failed' if each.failed else 'goes out'}"
            if each.comment.startswith("roll "):
                label = f"{each.comment[:_LONGEST]}{'…' if len(each.comment) > _LONGEST else ''}: {label}"
            marks.append(Mark(label, max(0.0, start), min(end, length_s)))
    return marks
