"""Horizontal bar charts as Vega-Lite, in groups or stacked; each bar has its name and its value beside it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lab.measure.findings import written
from lab.report.chart import BESIDE, CHARACTER, GAP, PIXELS, WIDER, WIDTH, Spec, in_rows, layers, tooltips
from lab.report.palette import colour_of, page_colour
from lab.report.scales import Scale  # noqa: TC001 (same)

_LONGEST_BESIDE = 26  # characters; longer names stand above their bars
_STEP = 20
_INK = page_colour("ink")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, or one part of a stack.

    Attributes:
        label: its name, written beside it.
        style: gives it its colour; see :mod:`lab.report.palette`.
        value: its length; NaN has none.
        low: lower end of its interval; None without one, and always in a stack. An arrow marks an end beyond the axis.
        high: upper end, likewise.
        text: written at its end; the value if empty.
    """

    label: str
    style: str
    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""

    @property
    def shown(self) -> str:
        """The text at its end."""
        return self.text or written(self.value)


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars that belong together, under a heading if there is a label; in a stacked chart, one row."""

    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Bound:
    """A value to compare bars with, drawn as a dashed line across them."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """A bar chart.

    Attributes:
        title: what the chart shows; also what a screen reader says.
        x: the axis; bars begin at 0, or at the axis's start if that is above 0.
        stacked: whether a group is one row, its bars end to end, followed by their sum.
        bounds: values to compare bars with.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.

    Raises:
        ValueError: a part of a stack is negative, infinite, NaN, or has an interval, none of which a stack can show.
    """

    title: str
    x: Scale
    groups: Sequence[BarGroup]
    stacked: bool = False
    bounds: Sequence[Bound] = ()
    name: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for bar in (bar for group in self.groups if self.stacked for bar in group.bars):
            if not 0 <= bar.value < math.inf or (bar.low, bar.high) != (None, None):
                raise ValueError(f"{bar.label!r}: a part of a stack is a number, 0 or more, without an interval")


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: a heading, or a name with its bars and the text behind them, as Vega-Lite data."""

    name: str = ""
    heading: str = ""
    bars: Sequence[Spec] = ()
    total: Spec = field(default_factory=dict)


def spec_of_bars(chart: BarChart) -> Spec:
    """A bar chart in Vega-Lite, with tooltips."""
    rows = list(_rows(chart))
    left = GAP + (CHARACTER + WIDER) * max((len(row.name) for row in rows), default=0)
    longest = max((len(row.total["text"]) for row in rows if row.total), default=0)
    width = WIDTH - left - 2 * GAP - longest * (CHARACTER + WIDER)
    aligned = in_rows(
        [chart.x.place(bound.value) * width for bound in chart.bounds], [bound.label for bound in chart.bounds], width
    )
    rows = [*(_Row() for _ in {row for row, _ in aligned}), *rows]
    bounds: list[Spec] = [
        {"row": row, "bound": bound.label, "x": bound.value, "align": align}
        for bound, (row, align) in zip(chart.bounds, aligned, strict=True)
    ]
    step = _STEP + 4 * chart.stacked
    pieces = [
        {"x": bound["x"], "top": step * row, "bottom": step * (row + 1)}
        for bound in bounds
        for row in range(bound["row"], len(rows))
        if _length(rows[row].heading) < left + chart.x.place(bound["x"]) * width
    ]
    for row in rows:
        if row.total:
            row.total["x"] = _past_bounds(chart, row.total["x"], row.total["text"], width)
    names = [row.name for row in rows]
    bars = [{**bar, "row": number} for number, row in enumerate(rows) for bar in row.bars]
    totals = [{**row.total, "row": number} for number, row in enumerate(rows) if row.total]
    headings = [{"heading": row.heading, "row": number} for number, row in enumerate(rows) if row.heading]
    x = chart.x.channel("x")
    return {
        "width": round(width),
        "padding": {"right": longest * WIDER},
        "height": {"step": step},
        "encoding": {
            "y": {
                "field": "row",
                "type": "ordinal",
                "title": None,
                "scale": {"domain": list(range(len(rows))), "paddingInner": 0.3, "paddingOuter": 0.2},
                "axis": {
                    "labelExpr": f"{json.dumps(names)}[datum.value]",
                    "labelColor": _INK,
                    "labelLimit": 0,
                    "labelPadding": GAP,
                    "minExtent": left,
                    "grid": False,
                },
            }
        },
        "layer": [
            _bars(chart, bars, x),
            *_intervals([bar for bar in bars if "low" in bar], x),
            *_bounds(bounds, pieces, x),
            *layers([bar for bar in bars if bar.get("roomy")], (_INSIDE, {"x": {**x, "field": "middle"}, **_TEXT})),
            *layers(totals, (_BEHIND, {"x": x, **_TEXT})),
            *layers(headings, (_HEADING, {"x": {"value": -left}, "text": {"field": "heading"}})),
        ],
    }


_TEXT: Spec = {"text": {"field": "text"}}
_INSIDE: Spec = {"type": "text", "align": "center", "color": "#000", "fontWeight": 600}
_BEHIND: Spec = {"type": "text", "align": "left", "dx": 6, "fontWeight": 600}
_HEADING: Spec = {"type": "text", "align": "left", "fontWeight": 600}


def _rows(chart: BarChart) -> Iterator[_Row]:
    rows = list(_stacked(chart) if chart.stacked else _grouped(chart))
    if max((len(row.name) for row in rows), default=0) <= _LONGEST_BESIDE:
        yield from rows
        return
    for row in rows:
        if row.name:
            yield _Row(heading=row.name)
        yield replace(row, name="")


def _grouped(chart: BarChart) -> Iterator[_Row]:
    for number, group in enumerate(chart.groups):
        if group.label:
            yield from (_Row() for _ in range(min(number, 1)))
            yield _Row(heading=group.label)
        for bar in group.bars:
            drawn = _bar(bar, chart.x)
            yield _Row(bar.label, bars=[drawn], total={"text": bar.shown, "x": drawn["furthest"]})


def _bar(bar: Bar, axis: Scale) -> Spec:
    start, end = axis.clamp(0.0), axis.clamp(0.0 if math.isnan(bar.value) else bar.value)
    drawn = {"name": bar.label, "colour": colour_of(bar.style), "figure": bar.shown, "x": start, "end": end}
    if bar.low is None or bar.high is None:
        return {**drawn, "furthest": max(start, end)}
    low, high = axis.clamp(bar.low), axis.clamp(bar.high)
    return {
        **drawn,
        "interval": f"{written(bar.low)} to {written(bar.high)}",
        "low": low,
        "high": high,
        "goes_below": bar.low < axis.low,
        "goes_beyond": bar.high > axis.high,
        "furthest": max(start, end, high),
    }


def _stacked(chart: BarChart) -> Iterator[_Row]:
    width = WIDTH * 0.6  # of the plot, at least: decides which values fit into their bars
    for group in chart.groups:
        start: float = 0
        bars = []
        for bar in group.bars:
            end = start + bar.value
            drawn = {"name": bar.label, "colour": colour_of(bar.style), "figure": bar.shown, "x": start, "end": end}
            roomy = (chart.x.place(end) - chart.x.place(start)) * width > len(bar.shown) * CHARACTER
            bars.append({**drawn, "middle": (start + end) / 2, "text": bar.shown, "roomy": roomy})
            start = end
        yield _Row(group.label, bars=bars, total={"text": written(start), "x": start})


def _bars(chart: BarChart, bars: Sequence[Spec], x: Spec) -> Spec:
    colour: Spec = {"field": "colour", "type": "nominal", "scale": None}
    if chart.stacked:
        colours = {bar["name"]: bar["colour"] for bar in bars}
        colour = {
            "field": "name",
            "type": "nominal",
            "scale": {"domain": list(colours), "range": list(colours.values())},
            "legend": {"orient": "top", "title": None, "symbolType": "square", "labelLimit": 0, "columns": 5},
        }
    shown = ("name", "figure", "interval") if any("low" in bar for bar in bars) else ("name", "figure")
    return {
        "data": {"values": bars},
        "mark": {"type": "bar", "stroke": page_colour("card"), "strokeWidth": 1},  # separates the parts of a stack
        "encoding": {"x": x, "x2": {"field": "end"}, "color": colour, "tooltip": tooltips(*shown)},
    }


def _intervals(bars: Sequence[Spec], x: Spec) -> Iterator[Spec]:
    """A line from end to end; each end has a serif, or an arrow if the interval continues beyond the axis."""
    rule: Spec = {"type": "rule", "color": _INK, "strokeWidth": 1.2}
    yield from layers(bars, (rule, {"x": {**x, "field": "low"}, "x2": {"field": "high"}}))
    for end, beyond, arrow in (("low", "goes_below", "triangle-left"), ("high", "goes_beyond", "triangle-right")):
        serif: Spec = {"type": "tick", "color": _INK, "thickness": 1.2, "size": 9}
        head: Spec = {"type": "point", "filled": True, "shape": arrow, "color": _INK, "size": 50, "opacity": 1}
        place: Spec = {"x": {**x, "field": end}}
        yield from layers([bar for bar in bars if not bar[beyond]], (serif, place))
        yield from layers([bar for bar in bars if bar[beyond]], (head, place))


def _past_bounds(chart: BarChart, start: float, text: str, width: float) -> float:
    """Where a text behind a bar begins: at the bar's end, or at the first bound from which it crosses none."""
    for value in sorted(bound.value for bound in chart.bounds):
        if 0 <= (chart.x.place(value) - chart.x.place(start)) * width <= _length(text):
            start = value
    return start


def _length(text: str) -> float:
    return len(text) * (CHARACTER + WIDER) + GAP if text else 0


def _bounds(bounds: Sequence[Spec], pieces: Sequence[Spec], x: Spec) -> list[Spec]:
    """Dashed lines from each bound's name down, with gaps where headings cross them."""
    rule: Spec = {"type": "rule", "color": _INK, "strokeWidth": 1.2, "strokeDash": [5, 3]}
    down: Spec = {"y": {"field": "top", **PIXELS}, "y2": {"field": "bottom"}}
    name: Spec = {"type": "text", **BESIDE}
    return [
        *layers(pieces, (rule, {"x": x, **down})),
        *layers(bounds, (name, {"x": x, "text": {"field": "bound"}})),
    ]
