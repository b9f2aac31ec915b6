"""Charts: from values to places on a drawing, which ``templates/parts.html`` writes down as SVG. Pure.

A line is named where it ends, so that nobody has to match colours with a legend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.report.scales import Scale

WIDTH, HEIGHT = 800, 300
"""Usual size; rows of marks, and very many lines, make it higher. In the units of the viewBox, as all below."""

_LEFT, _TOP, _BOTTOM = 58, 30, 46
_ROW = 18
_CHARACTER = 9.2  # a generous mean at the charts' size of letters, in bold and in wide fonts
_GAP = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        label: written where it ends.
        style: class of the style sheet, which gives it colour and dashes.
        points: values of x and y, in order; at least one.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float]]


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
    """

    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """Words, and where: ``anchor`` is SVG's, ``start`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A line with its name. From ``end`` a hair line leads to the name, which may have had to give way."""

    style: str
    path: str
    end: tuple[float, float]
    label: Text


@dataclass(frozen=True, slots=True)
class DrawnMark:
    """A mark with its name; it spans the height of the drawing from ``top`` on."""

    x: float
    width: float
    top: float
    label: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart with everything in its place."""

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
    lines: Sequence[DrawnLine]
    marks: Sequence[DrawnMark]


def draw(chart: Chart) -> Drawing:
    """Finds a place for everything in a chart."""
    right = WIDTH - 2 * _GAP - max((len(line.label) for line in chart.lines), default=0) * _CHARACTER

    def across(value: float) -> float:
        return round(_LEFT + chart.x.place(value) * (right - _LEFT), 1)

    rows = _rows([across(mark.start) for mark in chart.marks], [mark.label for mark in chart.marks], right)
    top = _TOP + _ROW * len({row for row, _ in rows})
    bottom = top + max(HEIGHT - _TOP - _BOTTOM, _ROW * len(chart.lines))  # room for every name

    def down(value: float) -> float:
        return round(bottom - chart.y.place(value) * (bottom - top), 1)

    ends = [down(line.points[-1][1]) for line in chart.lines]
    lines = [
        DrawnLine(
            line.style,
            "M" + "L".join(f"{across(x):g} {down(y):g}" for x, y in line.points),
            (across(line.points[-1][0]), end),
            Text(right + 2 * _GAP, label, line.label),
        )
        for line, end, label in zip(chart.lines, ends, _apart(ends, top, bottom), strict=True)
    ]
    marks = [
        DrawnMark(
            across(mark.start),
            max(1.5, across(mark.end) - across(mark.start)),
            _TOP + _ROW * row,
            Text(across(mark.start) + (4 if anchor == "start" else -4), _TOP + _ROW * row + 12, mark.label, anchor),
        )
        for mark, (row, anchor) in zip(chart.marks, rows, strict=True)
    ]
    return Drawing(
        title=chart.title,
        width=WIDTH,
        height=bottom + _BOTTOM,
        left=_LEFT,
        top=top,
        right=right,
        bottom=bottom,
        x_title=chart.x.title,
        y_title=chart.y.title,
        x_ticks=[Text(across(value), bottom + 18, text) for value, text in chart.x.ticks],
        y_ticks=[Text(_LEFT - _GAP, down(value), text) for value, text in chart.y.ticks],
        lines=lines,
        marks=marks,
    )


def _rows(starts: Sequence[float], labels: Sequence[str], right: float) -> list[tuple[int, str]]:
    """For each label the first row in which it meets no other, and to which side of its start it is written."""
    taken: list[list[tuple[float, float]]] = []
    result = []
    for start, label in zip(starts, labels, strict=True):
        length = len(label) * _CHARACTER + _GAP
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
        lowest = result[index] - _ROW
    highest = top
    for index in order:  # and back down, if that has pushed some out at the top
        result[index] = max(result[index], highest)
        highest = result[index] + _ROW
    return result
