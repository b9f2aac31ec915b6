"""Charts: from values to places on a drawing, which ``templates/parts.html`` writes down as SVG. Pure.

A line is named where it ends, so that nobody has to match colours with a legend.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 (what a bench leaves is read back by its annotations)
from dataclasses import dataclass

from lab.report.scales import Scale  # noqa: TC001 (same)

WIDTH, HEIGHT = 800, 300
"""Usual size; rows of marks, and very many lines, make it higher. In the units of the viewBox, as all below."""

_LEFT = 58
TOP, BOTTOM = 30, 46
ROW = 18
CHARACTER = 9.2
"""Width of one; a generous mean at the charts' size of letters, in bold and in wide fonts."""
GAP = 8
_SERIF = 4  # half the width of a whisker's ends


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        label: written where it ends.
        style: class of the style sheet, which gives it colour and dashes.
        points: values of x and y, in order; at least one.
        intervals: lowest and highest y, one a point; none if nothing is known of them.
        dots: whether each point was measured, and is to be seen; intervals then are bars, else a band.

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
    """What is to be drawn.

    Attributes:
        title: says what can be seen to those who cannot see it.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.
    """

    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    name: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Words, and where: ``anchor`` is SVG's, ``start`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A line with its name. From ``end`` a hair line leads to the name, which may have had to give way.

    ``band`` and ``whiskers`` are paths, empty if there is none; ``dots`` are places.
    """

    style: str
    path: str
    end: tuple[float, float]
    label: Text
    band: str = ""
    whiskers: str = ""
    dots: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class DrawnMark:
    """A mark with its name; it spans the height of the drawing from ``top`` on."""

    x: float
    width: float
    top: float
    label: Text


@dataclass(frozen=True, slots=True)
class DrawnBar:
    """A bar with what is written at its end, or in it; ``whisker`` is a path, empty if there is none."""

    style: str
    x: float
    y: float
    width: float
    height: float
    value: Text | None
    inside: bool = False
    whisker: str = ""


@dataclass(frozen=True, slots=True)
class DrawnBound:
    """A dashed line from ``top`` down, with its name."""

    x: float
    top: float
    label: Text


@dataclass(frozen=True, slots=True)
class DrawnKey:
    """Which style is whose, where names have no place of their own."""

    style: str
    label: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTile:
    """A tile of a heat map: how full its colour is, 0 to 1, and whether its letters are to be dark on it."""

    x: float
    y: float
    width: float
    height: float
    strength: float
    known: bool
    inside: bool
    text: Text
    more: Text | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart with everything in its place. ``names`` and ``headings`` are those of bars and of their groups."""

    title: str
    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x_title: str
    y_title: str
    x_ticks: Sequence[Text]
    y_ticks: Sequence[Text]
    lines: Sequence[DrawnLine] = ()
    marks: Sequence[DrawnMark] = ()
    bars: Sequence[DrawnBar] = ()
    bounds: Sequence[DrawnBound] = ()
    keys: Sequence[DrawnKey] = ()
    names: Sequence[Text] = ()
    headings: Sequence[Text] = ()
    tiles: Sequence[DrawnTile] = ()


def draw(chart: Chart) -> Drawing:
    """Finds a place for everything in a chart."""
    right = WIDTH - 2 * GAP - max((len(line.label) for line in chart.lines), default=0) * CHARACTER

    def across(value: float) -> float:
        return round(_LEFT + chart.x.place(value) * (right - _LEFT), 1)

    rows = in_rows([across(mark.start) for mark in chart.marks], [mark.label for mark in chart.marks], right)
    top = TOP + ROW * len({row for row, _ in rows})
    bottom = top + max(HEIGHT - TOP - BOTTOM, ROW * len(chart.lines))  # room for every name

    def down(value: float) -> float:
        return round(bottom - chart.y.place(value) * (bottom - top), 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "L".join(f"{across(x):g} {down(y):g}" for x, y in points)

    def band(line: Line) -> str:
        if line.dots or not line.intervals:
            return ""
        ends = [[(x, chart.y.clamp(ends[side])) for (x, _), ends in _with_intervals(line)] for side in (0, 1)]
        return f"M{path(ends[0])}L{path(ends[1][::-1])}Z"

    def whiskers(line: Line) -> str:
        if not line.dots:
            return ""
        return "".join(
            f"M{across(x) - _SERIF:g} {down(chart.y.clamp(low)):g}h{2 * _SERIF}m{-_SERIF} 0"
            f"V{down(chart.y.clamp(high)):g}m{-_SERIF} 0h{2 * _SERIF}"
            for (x, _), (low, high) in _with_intervals(line)
        )

    ends = [down(line.points[-1][1]) for line in chart.lines]
    lines = [
        DrawnLine(
            line.style,
            "M" + path(line.points),
            (across(line.points[-1][0]), end),
            Text(right + 2 * GAP, label, line.label),
            band(line),
            whiskers(line),
            [(across(x), down(y)) for x, y in line.points] if line.dots else (),
        )
        for line, end, label in zip(chart.lines, ends, _apart(ends, top, bottom), strict=True)
    ]
    marks = [
        DrawnMark(
            across(mark.start),
            max(1.5, across(mark.end) - across(mark.start)),
            TOP + ROW * row,
            Text(across(mark.start) + (4 if anchor == "start" else -4), TOP + ROW * row + 12, mark.label, anchor),
        )
        for mark, (row, anchor) in zip(chart.marks, rows, strict=True)
    ]
    return Drawing(
        title=chart.title,
        width=WIDTH,
        height=bottom + BOTTOM,
        left=_LEFT,
        top=top,
        right=right,
        bottom=bottom,
        x_title=chart.x.title,
        y_title=chart.y.title,
        x_ticks=[Text(across(value), bottom + 18, text) for value, text in chart.x.ticks],
        y_ticks=[Text(_LEFT - GAP, down(value), text) for value, text in chart.y.ticks],
        lines=lines,
        marks=marks,
    )


def _with_intervals(line: Line) -> zip[tuple[tuple[float, float], tuple[float, float]]]:
    return zip(line.points if line.intervals else (), line.intervals, strict=True)


def in_rows(starts: Sequence[float], labels: Sequence[str], right: float) -> list[tuple[int, str]]:
    """For each label the first row in which it meets no other, and to which side of its start it is written."""
    taken: list[list[tuple[float, float]]] = []
    result = []
    for start, label in zip(starts, labels, strict=True):
        length = len(label) * CHARACTER + GAP
        anchor = "start" if start + length <= right else "end"
        low, high = (start, start + length) if anchor == "start" else (start - length, start)
        row = next((n for n, row in enumerate(taken) if all(high <= a or b <= low for a, b in row)), len(taken))
        if row == len(taken):
            taken.append([])
        taken[row].append((low, high))
        result.append((row, anchor))
    return result


def _apart(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """The heights nearest to those wanted at which names do not overlap, in the same order from top to bottom."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    result = list(wanted)
    lowest = bottom
    for index in reversed(order):  # from the bottom up: none below the one beneath it
        result[index] = min(result[index], lowest)
        lowest = result[index] - ROW
    highest = top
    for index in order:  # and back down, if that has pushed some out at the top
        result[index] = max(result[index], highest)
        highest = result[index] + ROW
    return result
