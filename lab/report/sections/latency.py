"""How long requests took, from when they were due: the usual percentiles, and all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.load.summary import latency_histogram
from lab.report.chart import Chart, Drawing, Line, draw
from lab.report.scales import logarithmic, nines_of, percentiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.report.run import ReportedRun

NAME = "latency"
TITLE = "Latency"

_POINTS = 200


@dataclass(frozen=True, slots=True)
class Latency:
    """A row and a line a run.

    Attributes:
        curve: None if no run has sent anything.
    """

    runs: Sequence[ReportedRun]
    curve: Drawing | None


def view(runs: Sequence[ReportedRun]) -> Latency:
    """The percentiles of all runs."""
    lines = [Line(run.label, run.style, points) for run in runs if (points := curve(run))]
    if not lines:
        return Latency(runs, None)
    values = [value for line in lines for _, value in line.points]
    chart = Chart(
        "Latency in milliseconds over its percentile",
        percentiles("percentile of requests", max(line.points[-1][0] for line in lines)),
        logarithmic("latency, ms", min(values), max(values)),
        lines,
    )
    return Latency(runs, draw(chart))


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[str, Drawing, str]]:
    """The curve, if there is one."""
    if drawing := view(runs).curve:
        yield NAME, drawing, "; ".join(run.origin for run in runs)


def curve(run: ReportedRun) -> list[tuple[float, float]]:
    """Percentiles and milliseconds, evenly spaced over the nines; the last is the greatest value.

    It ends half a request from 100 %: n requests tell nothing of what fewer than one of them exceeds.
    """
    histogram = latency_histogram(run.records)
    if not histogram.count:
        return []
    end = nines_of(100 - 50 / histogram.count)
    shares = (100 - 100 * 10 ** (-end * number / _POINTS) for number in range(_POINTS + 1))
    return [(share, histogram.value_at_ms(share)) for share in shares]
