"""Latencies from the due time: the usual percentiles with intervals, and the whole curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.report.chart import Chart, Line
from lab.report.conditions import conditions
from lab.report.run import PERCENTILES, ReportedRun, origins
from lab.report.scales import logarithmic, nines_of, percentiles

LINES = 5
"""Most lines of a chart."""

_POINTS = 200
_MEDIAN = 50
_LEAST_MS = 1e-3  # a logarithmic axis has no 0
_ROUNDING = 1e-9  # as in lab.measure.latency


def view(
    runs: Sequence[ReportedRun],
) -> tuple[Sequence[ReportedRun], Sequence[str], Mapping[int, Sequence[Tenant]], str]:
    """The runs, the percentiles with intervals, the tenants by the number of their run, and the runs' origins."""
    return runs, tuple(PERCENTILES), {run.number: tenants(run) for run in runs}, origins(runs)


@dataclass(frozen=True, slots=True)
class Tenant:
    """The requests of one tenant.

    Attributes:
        name: empty for requests without one.
        sent: number of its requests, of which ``failed`` got no answer.
        p50_ms: median latency of its answers; NaN without any. ``p99_ms`` likewise.
    """

    name: str
    sent: int
    failed: int
    p50_ms: float
    p99_ms: float


def tenants(run: ReportedRun) -> list[Tenant]:
    """A run's tenants by name; none if there is only one."""
    which, words = run.history.words("tenant")
    found = []
    for name, number in sorted((words[number], int(number)) for number in np.unique(which[run.rows_sent])):
        sent = which[run.rows_sent] == number
        ms = run.latencies_ms[which[run.rows_timed] == number]
        p50, p99 = np.quantile(ms, (0.5, 0.99), method="inverted_cdf") if ms.size else (math.nan, math.nan)
        failed = int((sent & ~run.is_ok[run.rows_sent]).sum())
        found.append(Tenant(name, int(sent.sum()), failed, float(p50), float(p99)))
    return found if len(found) > 1 else []


def charts_of(runs: Sequence[ReportedRun]) -> Iterator[Chart]:
    """The whole curve of each run that was answered: a chart for each payload, with at most :data:`LINES` lines."""
    by_payload: dict[str, list[Line]] = {}
    for run in runs:
        if points := curve(run):
            by_payload.setdefault(conditions(run)["payload"], []).append(Line(run.label, run.style, points))
    for number, (payload, lines) in enumerate(by_payload.items(), 1):
        shown = slowest(lines)
        values = [value for line in shown for _, value in line.points]
        which = f", the {LINES} slowest of {len(lines)} runs" if len(lines) > LINES else ""
        yield Chart(
            f"Latency of answers by percentile{f', {payload}' if len(by_payload) > 1 else ''}{which}",
            percentiles("percentile of answers", max(line.points[-1][0] for line in shown)),
            logarithmic("latency, ms", min(values), max(values)),
            shown,
            name="latency" if len(by_payload) == 1 else f"latency-{number}",
        )


def slowest(lines: Sequence[Line]) -> list[Line]:
    """Those with the highest medians, in their order, where there are more than a reader tells apart."""

    def median(line: Line) -> float:
        return next(ms for share, ms in line.points if share >= _MEDIAN or share == line.points[-1][0])

    kept = sorted(lines, key=median, reverse=True)[:LINES]
    return [line for line in lines if line in kept]


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[Chart, str]]:
    """The curves, if there are any."""
    for chart in charts_of(runs):
        yield chart, origins(runs)


def curve(run: ReportedRun) -> list[tuple[float, float]]:
    """Percentiles and their latencies, ms, evenly spaced over the nines; the last is the maximum.

    It ends half a request before 100 %: n requests say nothing about what fewer than one of them exceeds.
    """
    ordered = np.sort(run.latencies_ms)
    if not (timed := len(ordered)):
        return []
    end = nines_of(100 - 50 / timed)
    shares = [100 - 100 * 10 ** (-end * number / _POINTS) for number in range(_POINTS + 1)]
    ranks = (max(1, math.ceil(timed * share / 100 - _ROUNDING)) for share in shares)
    return [(share, max(_LEAST_MS, float(ordered[rank - 1]))) for share, rank in zip(shares, ranks, strict=True)]
