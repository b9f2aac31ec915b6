"""Latencies from the due time: the usual percentiles with intervals, and the whole curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lab.report.chart import Chart, Line
from lab.report.run import PERCENTILES, origins
from lab.report.scales import logarithmic, nines_of, percentiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.report.run import ReportedRun

_POINTS = 200
_LEAST_MS = 1e-3  # a logarithmic axis has no 0
_ROUNDING = 1e-9  # as in lab.measure.latency


def view(runs: Sequence[ReportedRun]) -> tuple[Sequence[ReportedRun], Sequence[str], Chart | None, str]:
    """The runs, the percentiles with intervals, the whole curve, None if no run sent anything, and their origins."""
    lines = [Line(run.label, run.style, points) for run in runs if (points := curve(run))]
    chart = None
    if lines:
        values = [value for line in lines for _, value in line.points]
        chart = Chart(
            "Latency in milliseconds over its percentile",
            percentiles("percentile of requests", max(line.points[-1][0] for line in lines)),
            logarithmic("latency, ms", min(values), max(values)),
            lines,
            name="latency",
        )
    return runs, tuple(PERCENTILES), chart, origins(runs)


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[Chart, str]]:
    """The curve, if there is one."""
    _, _, chart, origin = view(runs)
    if chart:
        yield chart, origin


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
