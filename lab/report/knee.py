"""The chart of a search for the highest rate that holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report.chart import Chart, Line
from lab.report.palette import style_of
from lab.report.picture import to_svg, write_pictures
from lab.report.scales import linear

if TYPE_CHECKING:
    from pathlib import Path

    from lab.runs.knee import Knee


def draw(found: Knee, topology: str, stem: Path) -> list[Path]:
    """Writes the chart as SVG and PNG, and returns their paths; ``stem`` is a path without ending."""
    return write_pictures(to_svg(chart_of(found), f"lab load --find-knee on {topology}"), stem)


def chart_of(found: Knee) -> Chart:
    """The p99 over the offered rate: the rates that held, and those that broke."""
    steps = sorted(found.steps, key=lambda step: step.rate)
    lines = [
        Line(label, style_of(number), [(step.rate, step.p99_ms) for step in of_kind], dots=True)
        for number, (label, broken) in enumerate((("holds", False), ("breaks", True)), 1)
        if (of_kind := [step for step in steps if bool(step.broken) is broken])
    ]
    x = linear("offered rate, requests per second", steps[-1].rate)
    y = linear("p99, ms", max(step.p99_ms for step in steps) or 1.0)
    return Chart("p99 over the offered rate", x, y, lines, note=found.sentence)
