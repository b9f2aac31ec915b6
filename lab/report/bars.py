"""Bars: lying, in groups or stacked, each with its name and its value written out. Pure, like the other charts."""

from __future__ import annotations

import math
from collections.abc import Sequence  # noqa: TC003 (what a bench leaves is read back by its annotations)
from dataclasses import dataclass

from lab.measure.findings import written
from lab.report.chart import (
    BOTTOM,
    CHARACTER,
    GAP,
    ROW,
    WIDTH,
    Drawing,
    DrawnBar,
    DrawnBound,
    DrawnKey,
    Text,
    in_rows,
)
from lab.report.scales import Scale  # noqa: TC001 (same)

_LONGEST_BESIDE = 26  # characters; longer names stand above their bars
_THICK = 13
_SERIF = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, or one part of a stack.

    Attributes:
        label: its name.
        style: class of the style sheet, which gives it its colour.
        value: its length; one that is no number has none.
        low: lower end of its interval, None if there is none; not in a stack. Beyond the axis it ends in an arrow.
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
        """What is written at its end."""
        return self.text or written(self.value)


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars that belong together; in a stack, one row. Without a label there is no heading."""

    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Bound:
    """A value that bars are to be held against."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """What is to be drawn.

    Attributes:
        title: says what can be seen to those who cannot see it.
        x: what bars are measured by; they begin at 0, or where the axis does.
        stacked: a group is one row, its bars end to end, its sum written out.
        bounds: dashed lines across all bars.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.

    Raises:
        ValueError: a part of a stack is negative, no number, or has an interval: none of these can be seen there.
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


def draw_bars(chart: BarChart) -> Drawing:
    """Finds a place for everything in a bar chart."""
    frame = _Frame.of(chart)
    return _stacked(chart, frame) if chart.stacked else _grouped(chart, frame)


@dataclass(frozen=True, slots=True)
class _Frame:
    x: Scale
    left: float
    right: float
    above: bool

    @classmethod
    def of(cls, chart: BarChart) -> _Frame:
        if chart.stacked:
            names = [group.label for group in chart.groups]
            values = [written(sum(bar.value for bar in group.bars)) for group in chart.groups]
        else:
            names = [bar.label for group in chart.groups for bar in group.bars]
            values = [bar.shown for group in chart.groups for bar in group.bars]
        longest = max(map(len, names), default=0)
        above = longest > _LONGEST_BESIDE
        left = GAP if above else longest * CHARACTER + GAP
        return cls(chart.x, left, WIDTH - 2 * GAP - max(map(len, values), default=0) * CHARACTER, above)

    def across(self, value: float) -> float:
        return round(self.left + self.x.place(self.x.clamp(value)) * (self.right - self.left), 1)

    def name(self, text: str, y: float) -> Text:
        """Above the bar or beside it; ``y`` is the top of the row."""
        return Text(self.left, y + 13, text) if self.above else Text(self.left - GAP, y + 13, text, "end")

    def drawing(
        self,
        chart: BarChart,
        top: float,
        bottom: float,
        bars: Sequence[DrawnBar],
        names: Sequence[Text],
        headings: Sequence[Text] = (),
        keys: Sequence[DrawnKey] = (),
        bounds: Sequence[DrawnBound] = (),
    ) -> Drawing:
        return Drawing(
            title=chart.title,
            width=WIDTH,
            height=bottom + BOTTOM,
            left=self.left,
            top=top,
            right=self.right,
            bottom=bottom,
            x_title=chart.x.title,
            y_title="",
            x_ticks=[Text(self.across(value), bottom + 18, text) for value, text in chart.x.ticks],
            y_ticks=(),
            bars=bars,
            names=names,
            headings=headings,
            keys=keys,
            bounds=bounds,
        )


def _bounds(chart: BarChart, frame: _Frame, top: float) -> tuple[list[DrawnBound], float]:
    """The dashed lines, whose names take rows from ``top`` on, and where those end."""
    places = [frame.across(bound.value) for bound in chart.bounds]
    rows = in_rows(places, [bound.label for bound in chart.bounds], frame.right)
    drawn = [
        DrawnBound(
            place,
            top + ROW * row,
            Text(place + (4 if anchor == "start" else -4), top + ROW * row + 12, bound.label, anchor),
        )
        for bound, place, (row, anchor) in zip(chart.bounds, places, rows, strict=True)
    ]
    return drawn, top + ROW * len({row for row, _ in rows})


def _grouped(chart: BarChart, frame: _Frame) -> Drawing:
    bounds, top = _bounds(chart, frame, GAP)
    y = top + GAP / 2
    bars, names, headings = [], [], []
    for group in chart.groups:
        if group.label:
            headings.append(Text(0, y + 14, group.label))
            y += ROW + 2
        for bar in group.bars:
            names.append(frame.name(bar.label, y))
            if frame.above:
                y += ROW
            bars.append(_bar(bar, frame, y))
            y += ROW + (GAP / 2 if frame.above else 0)
        y += GAP
    return frame.drawing(chart, top, y, bars, names, headings, bounds=bounds)


def _bar(bar: Bar, frame: _Frame, y: float) -> DrawnBar:
    value = bar.value if not math.isnan(bar.value) else frame.x.clamp(0.0)
    start, end = sorted((frame.across(0.0), frame.across(value)))
    whisker, furthest = "", end
    if bar.low is not None and bar.high is not None:
        low, high, middle = frame.across(bar.low), frame.across(bar.high), y + ROW / 2
        first, last = _whisker_end(bar.low, -1, frame.x), _whisker_end(bar.high, 1, frame.x)
        whisker = f"M{low:g} {middle:g}{first}M{low:g} {middle:g}H{high:g}{last}"
        furthest = max(end, high)
    return DrawnBar(
        bar.style,
        start,
        y + (ROW - _THICK) / 2,
        round(end - start, 1),
        _THICK,
        Text(furthest + 6, y + 13, bar.shown),
        whisker=whisker,
    )


def _whisker_end(value: float, way: int, axis: Scale) -> str:
    """A serif, or the head of an arrow where the interval goes on beyond the axis; ``way`` is 1 to the right."""
    if axis.low <= value <= axis.high:
        return f"m0 {-_SERIF}v{2 * _SERIF}"
    back = -_SERIF * way
    return f"m{back} {-_SERIF}l{-back} {_SERIF}l{back} {_SERIF}"


def _stacked(chart: BarChart, frame: _Frame) -> Drawing:
    styles = {bar.label: bar.style for group in chart.groups for bar in group.bars}
    keys, x, y = [], 0.0, float(GAP)
    for label, style in styles.items():
        length = len(label) * CHARACTER + 3 * GAP
        if x and x + length > WIDTH:
            x, y = 0.0, y + ROW
        keys.append(DrawnKey(style, Text(x, y, label)))
        x += length
    bounds, top = _bounds(chart, frame, y + ROW + GAP)
    y = top + GAP / 2
    bars, names = [], []
    for group in chart.groups:
        names.append(frame.name(group.label, y + 2))
        if frame.above:
            y += ROW
        total: float = 0
        for bar in group.bars:
            start, end = frame.across(total), frame.across(total + bar.value)
            total += bar.value
            roomy = end - start > len(bar.shown) * CHARACTER
            text = Text((start + end) / 2, y + 15, bar.shown, "middle") if roomy else None
            width = max(0.0, round(end - start - 1, 1))  # a gap of one tells parts apart without their colours
            bars.append(DrawnBar(bar.style, start, y + 2, width, ROW, text, inside=True))
        names.append(Text(frame.across(total) + 6, y + 15, written(total)))
        y += ROW + GAP
    return frame.drawing(chart, top, y, bars, names, keys=keys, bounds=bounds)
