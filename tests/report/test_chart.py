"""Charts: everything has a place inside, and no two names are on top of each other."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.report.chart import WIDTH, Chart, Line, Mark, draw
from lab.report.scales import linear

X, Y = linear("s", 10, to_tick=False), linear("rps", 100)


def _chart(*lines: Line, marks: tuple[Mark, ...] = ()) -> Chart:
    return Chart("what is seen", X, Y, lines, marks)


def test_a_line_runs_from_its_first_to_its_last_value() -> None:
    drawing = draw(_chart(Line("mesh", "run-1", [(0, 0), (5, 100), (10, 50)])))

    line = drawing.lines[0]
    middle = (drawing.left + drawing.right) / 2
    assert f"M{drawing.left:g} {drawing.bottom:g}L{middle:g} {drawing.top:g}L" in line.path
    assert (drawing.right, (drawing.top + drawing.bottom) / 2) == line.end
    assert "mesh" == line.label.text


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_names_stand_apart_inside_the_drawing_in_the_order_of_the_lines(ends: list[float]) -> None:
    lines = [Line(f"{number} mesh-unleased", "run-1", [(0, 0), (10, end)]) for number, end in enumerate(ends)]

    drawing = draw(_chart(*lines))

    in_order = sorted(drawing.lines, key=lambda line: line.end[1])
    heights = [line.label.y for line in in_order]
    assert all(below - above >= 17.9 for above, below in pairwise(heights))
    assert drawing.top <= heights[0]
    assert heights[-1] <= drawing.bottom
    assert all(line.label.x + len(line.label.text) * 8 < WIDTH for line in drawing.lines)


@given(st.lists(st.floats(0, 10), max_size=12))
def test_names_of_marks_do_not_meet(starts: list[float]) -> None:
    marks = tuple(Mark(f"revision {number} goes out", start, start) for number, start in enumerate(starts))

    drawing = draw(_chart(Line("answered", "run-1", [(0, 0), (10, 1)]), marks=marks))

    spans = []
    for mark in drawing.marks:
        length = 8 * len(mark.label.text)
        low = mark.label.x - (length if mark.label.anchor == "end" else 0)
        spans.append((mark.label.y, low, low + length))
        assert mark.label.y < drawing.top
        assert low + length <= WIDTH
    ordered = sorted(spans)
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in pairwise(ordered))


def test_intervals_are_bars_where_points_were_measured_and_else_a_band() -> None:
    points, intervals = [(0.0, 50.0), (10.0, 60.0)], [(40.0, 55.0), (50.0, math.inf)]

    dots, band = draw(
        _chart(Line("a", "run-1", points, intervals, dots=True), Line("b", "run-2", points, intervals))
    ).lines

    assert (2, True, "") == (len(dots.dots), dots.whiskers.count("M") == 2, dots.band)
    assert ((), "", "Z") == (band.dots, band.whiskers, band.band[-1])


def test_intervals_that_are_not_one_a_point_are_refused() -> None:
    with pytest.raises(ValueError, match="1 intervals of 2 points"):
        Line("a", "run-1", [(0, 1), (1, 2)], [(0, 1)])
