"""Line charts as Vega-Lite (https://vega.github.io/vega-lite/docs/spec.html). Pure.

Each line is labelled at its end, so readers need not match colours with a legend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.report.palette import colour_of, dashes_of, page_colour
from lab.report.scales import Scale  # noqa: TC001 (same)

Spec = dict[str, Any]
"""A chart, or a part of one, in Vega-Lite."""

WIDTH, HEIGHT = 900, 230
"""Width of a chart with its labels, and usual height of its plot; pixels, like all lengths below."""

ROW = 18
CHARACTER = 7.6
"""Width of one, for layout before the text is drawn: a generous mean."""

WIDER = 1.8
"""Extra width of one in a wide, bold font of the reader's machine."""

GAP = 10
_LEFT = 56
_SHORTEST_NAME = 10  # characters; most charts then have plots of the same width


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        label: its name, written at its end.
        style: gives it colour and dashes; see :mod:`lab.report.palette`.
        points: values of x and y, in order; at least one. A y of NaN breaks the line.
        intervals: lowest and highest y, one a point; empty if they are not known.
        dots: whether each point is a measurement, drawn as a dot with an interval bar; else intervals are a band.

    Raises:
        ValueError: there are intervals, but not one a point.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()
    dots: bool = False

    def __post_init__(self) -> None:
        if self.intervals and len(self.intervals) != len(self.points):
            raise ValueError(f"line {self.label!r}: {len(self.intervals)} intervals of {len(self.points)} points")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened between two values of x."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over an axis, with marks.

    Attributes:
        title: what the chart shows; also what a screen reader says.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.
        height: of its plot, in pixels, more if its names need it.
    """

    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    name: str = ""
    note: str = ""
    height: int = HEIGHT


def spec_of_lines(chart: Chart, *, live: bool = False) -> Spec:
    """A chart of lines in Vega-Lite.

    Args:
        chart: what it shows.
        live: with tooltips, and with pan and zoom along x; without, for a picture.
    """
    longest = max((_SHORTEST_NAME, *(len(line.label) for line in chart.lines)))
    width = WIDTH - _LEFT - 4 * GAP - longest * (CHARACTER + WIDER)
    rows = in_rows(
        [chart.x.place(mark.start) * width for mark in chart.marks], [mark.label for mark in chart.marks], width
    )
    top = ROW * len({row for row, _ in rows}) + (GAP / 2 if rows else 0)
    bottom = top + max(chart.height, ROW * len(chart.lines))  # room for every name
    x, y = chart.x.channel("x"), chart.y.channel("y", headroom=top / (bottom - top))
    y["axis"] |= {"titleY": -GAP, "titleX": -_LEFT, "minExtent": _LEFT, "maxExtent": _LEFT}
    if chart.x.kind == "linear":
        x["axis"] = {"tickCount": 8}  # new ones where it is zoomed
    area: Spec = {"type": "area", "opacity": 0.22, "clip": True}
    line: Spec = {"type": "line", "strokeWidth": 2, "clip": True}
    bands = [point for line in chart.lines if not line.dots for point in _points(line, chart) if "low" in point]
    dots = [point for line in chart.lines if line.dots for point in _points(line, chart)]
    colours = _by_line("color", chart, [colour_of(line.style) for line in chart.lines])
    dashes = _by_line("strokeDash", chart, [dashes_of(line.style) for line in chart.lines])
    return {
        "width": round(width),
        "height": round(bottom),
        "padding": {"right": longest * WIDER},
        "data": {"values": [point for line in chart.lines for point in _points(line, chart)]},
        "encoding": {"x": x, **colours},
        "layer": [
            *_marks(chart, rows, top, bottom),
            *layers(bands, (area, {"y": {**y, "field": "low"}, "y2": {"field": "high"}})),
            {"mark": line, "encoding": {"y": y, **dashes}, "params": [_ZOOM] if live else []},
            *_whiskers([point for point in dots if "low" in point], y),
            *layers(dots, ({"type": "point", "filled": True, "size": 50, "opacity": 1}, {"y": y})),
            *([_halos(chart, y)] if live else []),
            *_names(chart, top, bottom, dashes),
        ],
    }


_ZOOM: Spec = {
    "name": "zoom",
    "select": {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.ctrlKey]"},  # else the page scrolls
    "bind": "scales",
}


def layers(values: Sequence[Spec], *drawn: tuple[Spec, Spec]) -> list[Spec]:
    """A layer for each mark and its encoding, all of the same values; none if there are no values."""
    return [{"data": {"values": values}, "mark": mark, "encoding": encoding} for mark, encoding in drawn if values]


def tooltips(*fields: str) -> list[Spec]:
    """A tooltip that lists these fields by name."""
    return [{"field": field, "type": "nominal"} for field in fields]


def _points(line: Line, chart: Chart) -> list[Spec]:
    points: list[Spec] = [
        {
            "line": line.label,
            "at": _short(at),
            "x": _short(chart.x.bent(at)),
            "y": None if math.isnan(value) else _short(value),
        }
        for at, value in line.points
    ]
    for point, (low, high) in zip(points, line.intervals, strict=False):
        point |= {"low": _short(chart.y.clamp(low)), "high": _short(chart.y.clamp(high))}
    return points


def _short(value: float) -> float:
    """To six digits, which is finer than a pixel."""
    return float(f"{value:.6g}")


def _by_line(channel: str, chart: Chart, values: Sequence[object]) -> Spec:
    scale = {"domain": [line.label for line in chart.lines], "range": values}
    return {channel: {"field": "line", "type": "nominal", "scale": scale, "legend": None}}


def _whiskers(points: Sequence[Spec], y: Spec) -> list[Spec]:
    rule: Spec = {"type": "rule", "strokeWidth": 1.2}
    serif: Spec = {"type": "tick", "orient": "horizontal", "size": 8, "thickness": 1.2}
    low, high = {**y, "field": "low"}, {**y, "field": "high"}
    return layers(points, (rule, {"y": low, "y2": {"field": "high"}}), (serif, {"y": low}), (serif, {"y": high}))


def _halos(chart: Chart, y: Spec) -> Spec:
    """A disc around each point, visible under the pointer, with the point's values as tooltip."""
    figures = {"at": chart.x.title, "y": chart.y.title}
    if any(line.intervals for line in chart.lines):
        figures |= {"low": "from", "high": "to"}
    return {
        "params": [{"name": "near", "select": {"type": "point", "on": "pointerover", "clear": "pointerout"}}],
        "mark": {"type": "point", "filled": True, "size": 250, "clip": True},
        "encoding": {
            "y": y,
            "opacity": {"condition": {"param": "near", "empty": False, "value": 0.5}, "value": 0},
            "tooltip": [
                *tooltips("line"),
                *(
                    {"field": field, "title": title, "type": "quantitative", "format": ",.5~g"}
                    for field, title in figures.items()
                ),
            ],
        },
    }


def _marks(chart: Chart, rows: Sequence[tuple[int, str]], top: float, bottom: float) -> list[Spec]:
    """A labelled band for each mark, from its row above the lines down to the axis.

    Its edges begin below the rows, so that none strikes through a label.
    """
    values = [
        {
            "what": mark.label,
            "x": mark.start,
            "end": mark.end,
            "from": f"{mark.start:.1f}",
            "until": f"{mark.end:.1f}",
            "row": ROW * row,
            "align": anchor,
        }
        for mark, (row, anchor) in zip(chart.marks, rows, strict=True)
    ]
    band: Spec = {"type": "rect", "fill": _QUIET, "fillOpacity": 0.18, "clip": True}
    edges: Spec = {"type": "rect", "filled": False, "stroke": _QUIET, "clip": True}
    # In a narrow window a label may be longer than the plot: it runs on beside it, as long as its band is in view.
    in_view = {"expr": "datum.end >= domain('x')[0] && datum.x <= domain('x')[1] ? 1 : 0"}
    name: Spec = {
        "type": "text",
        "baseline": "top",
        "dy": 3,
        "color": _QUIET,
        "clip": False,
        "opacity": in_view,
        **BESIDE,
    }
    y: Spec = {"field": "row", **PIXELS}
    ends: Spec = {"x2": {"field": "end"}, "y2": {"value": bottom}, "color": _NO_SCALE}
    said = tooltips("what", "from", "until")
    return layers(
        values,
        (band, {"y": y, **ends, "tooltip": said}),
        (edges, {"y": {"value": top}, **ends}),
        (name, {"y": y, "text": {"field": "what"}, "color": _NO_SCALE, "tooltip": said}),
    )


BESIDE: Spec = {"align": {"expr": "datum.align"}, "dx": {"expr": "datum.align == 'left' ? 4 : -4"}}
"""Properties of a text mark: left or right of its position, as the datum's ``align`` says."""
_QUIET = page_colour("quiet")
_NO_SCALE: Spec = {"value": _QUIET}
PIXELS: Spec = {"type": "quantitative", "scale": None, "axis": None}
"""Channel of a field whose values are pixels."""


def _names(chart: Chart, top: float, bottom: float, dashes: Spec) -> list[Spec]:
    """To the right of the plot, at the height where each line ends: a piece of the line, and its name."""
    ends = [bottom - chart.y.place(line.points[-1][1]) * (bottom - top) for line in chart.lines]
    values = [
        {"line": line.label, "height": round(height, 1)}
        for line, height in zip(chart.lines, apart(ends, top, bottom), strict=True)
    ]
    piece: Spec = {"x": _behind(GAP), "x2": _behind(3 * GAP), **dashes}
    name: Spec = {"x": _behind(3.5 * GAP), "text": {"field": "line"}, "color": {"value": page_colour("ink")}}
    y: Spec = {"y": {"field": "height", **PIXELS}}
    return layers(
        values,
        ({"type": "rule", "strokeWidth": 2, "clip": False}, {**y, **piece}),
        ({"type": "text", "align": "left", "fontWeight": 600, "clip": False}, {**y, **name}),
    )


def _behind(distance: float) -> Spec:
    """That far to the right of the plot, whose width may shrink with the page."""
    return {"value": {"expr": f"width + {distance:g}"}}


def in_rows(starts: Sequence[float], labels: Sequence[str], right: float) -> list[tuple[int, str]]:
    """For each label the first row where it meets no other, and its alignment with its start: ``left`` or ``right``."""
    taken: list[list[tuple[float, float]]] = []
    result = []
    for start, label in zip(starts, labels, strict=True):
        length = len(label) * CHARACTER + GAP
        align = "left" if start + length <= right else "right"
        low, high = (start, start + length) if align == "left" else (start - length, start)
        row = next((n for n, row in enumerate(taken) if all(high <= a or b <= low for a, b in row)), len(taken))
        if row == len(taken):
            taken.append([])
        taken[row].append((low, high))
        result.append((row, align))
    return result


def apart(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """The heights closest to those wanted at which names do not overlap, in the same order."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    result = list(wanted)
    lowest = bottom
    for index in reversed(order):  # from the bottom up: push up each that overlaps the one below
        result[index] = min(result[index], lowest)
        lowest = result[index] - ROW
    highest = top
    for index in order:  # and back down, if that pushed some above the top
        result[index] = max(result[index], highest)
        highest = result[index] + ROW
    return result
