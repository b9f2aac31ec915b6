"""Line charts: everything has a place inside, and no two names are on top of each other."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.report.chart import CHARACTER, WIDTH, Chart, Line, Mark, apart, in_rows, spec_of_lines
from lab.report.palette import colour_of, dashes_of
from lab.report.scales import linear

X, Y = linear("s", 10, to_tick=False), linear("rps", 100)


def chart_of(*lines: Line, marks: tuple[Mark, ...] = ()) -> Chart:
    return Chart("what is seen", X, Y, lines, marks)


def layers_of(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == kind]


def test_a_line_goes_through_its_values_and_ends_beside_its_name() -> None:
    spec = spec_of_lines(chart_of(Line("mesh", "run-1", [(0, 0), (5, 100), (10, 50)])))

    assert [(point["x"], point["y"]) for point in spec["data"]["values"]] == [(0, 0), (5, 100), (10, 50)]
    (name,) = layers_of(spec, "text")[-1]["data"]["values"]
    assert (name["line"], name["height"]) == ("mesh", spec["height"] / 2)
    assert spec["encoding"]["color"]["scale"] == {"domain": ["mesh"], "range": [colour_of("run-1")]}


def test_dashes_tell_lines_of_one_colour_apart() -> None:
    lines = [Line(style, style, [(0, 1)]) for style in ("run-1", "run-1 again-1", "run-1 again-2", "failed")]

    (line,) = layers_of(spec_of_lines(chart_of(*lines)), "line")

    dashes = line["encoding"]["strokeDash"]["scale"]["range"]
    assert dashes == [dashes_of(line.style) for line in lines]
    assert len({tuple(each) for each in dashes}) == len(lines)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_names_stand_apart_inside_the_drawing_in_the_order_of_the_lines(ends: list[float]) -> None:
    top, bottom = 36.0, 36.0 + 18 * 30
    wanted = [bottom - (bottom - top) * end / 100 for end in ends]

    heights = apart(wanted, top, bottom)

    in_order = [heights[index] for index in sorted(range(len(wanted)), key=wanted.__getitem__)]
    assert all(below - above >= 17.9 for above, below in pairwise(in_order))
    assert top <= in_order[0]
    assert in_order[-1] <= bottom


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_every_name_is_inside(ends: list[float]) -> None:
    lines = [Line(f"{number} mesh-unleased", "run-1", [(0, 0), (10, end)]) for number, end in enumerate(ends)]

    spec = spec_of_lines(chart_of(*lines))

    name = layers_of(spec, "text")[-1]
    axis = 56
    assert all(0 <= each["height"] <= spec["height"] for each in name["data"]["values"])
    behind = float(name["encoding"]["x"]["value"]["expr"].removeprefix("width + "))
    assert axis + spec["width"] + behind + CHARACTER * len("29 mesh-unleased") <= WIDTH


@given(st.lists(st.floats(0, 700), max_size=12))
def test_names_of_marks_do_not_meet(starts: list[float]) -> None:
    labels = [f"revision {number} goes out" for number in range(len(starts))]

    spans = []
    for start, label, (row, align) in zip(starts, labels, in_rows(starts, labels, 700), strict=True):
        length = 7 * len(label)
        low = start - (length if align == "right" else 0)
        assert low + length <= 700
        spans.append((row, low, low + length))
    ordered = sorted(spans)
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in pairwise(ordered))


def test_marks_have_room_above_the_lines() -> None:
    line = Line("answered", "run-1", [(0, 100), (10, 100)])
    marks = (Mark("a-0 killed", 2, 4), Mark("a-1 killed", 2, 5))

    spec = spec_of_lines(chart_of(line, marks=marks))

    band, edges = layers_of(spec, "rect")
    (name,) = layers_of(spec, "text")[-1]["data"]["values"]
    assert [each["row"] for each in band["data"]["values"]] == [0, 18]
    assert name["height"] > 2 * 18, "the highest value is below the names of the marks"
    assert ("stroke" in band["mark"], edges["encoding"]["y"]["value"] > 2 * 18) == (False, True), "no edge in a name"


def test_intervals_are_bars_where_points_were_measured_and_else_a_band() -> None:
    points, intervals = [(0.0, 50.0), (10.0, 60.0)], [(40.0, 55.0), (50.0, math.inf)]

    dots = spec_of_lines(chart_of(Line("a", "run-1", points, intervals, dots=True)))
    band = spec_of_lines(chart_of(Line("b", "run-2", points, intervals)))

    assert [len(layers_of(dots, kind)) for kind in ("point", "tick", "area")] == [1, 2, 0]
    assert [len(layers_of(band, kind)) for kind in ("point", "tick", "area")] == [0, 0, 1]
    assert [point["high"] for point in dots["data"]["values"]] == [55, 100]


def test_only_a_live_chart_zooms() -> None:
    chart = chart_of(Line("a", "run-1", [(0, 1)]))

    assert '"zoom"' in json.dumps(spec_of_lines(chart, live=True))
    assert '"zoom"' not in json.dumps(spec_of_lines(chart))


def test_intervals_that_are_not_one_a_point_are_refused() -> None:
    with pytest.raises(ValueError, match="1 intervals of 2 points"):
        Line("a", "run-1", [(0, 1), (1, 2)], [(0, 1)])
