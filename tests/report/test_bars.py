"""Bar charts: lengths tell values, names stay inside, and nothing that cannot be seen is drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.report.bars import Bar, BarChart, BarGroup, Bound, draw_bars
from lab.report.chart import WIDTH
from lab.report.scales import linear

X = linear("ms", 10, low=-10)
NAMES = st.text("abcdefgh- ", max_size=60)
FIGURES = st.floats(allow_nan=True, allow_infinity=True)


def _one(value: float, low: float | None = None, high: float | None = None) -> BarChart:
    return BarChart("what is seen", X, [BarGroup("", [Bar("mesh", "run-1", value, low, high)])])


def test_a_bar_goes_from_nothing_to_its_value() -> None:
    forwards, backwards = (
        draw_bars(BarChart("what is seen", X, [BarGroup("", [Bar("mesh", "run-1", value, text="x")])])).bars[0]
        for value in (5, -5)
    )

    assert forwards.width == pytest.approx(backwards.width, abs=0.2)
    assert backwards.x + backwards.width == pytest.approx(forwards.x, abs=0.2)


def test_the_value_stands_beyond_the_interval() -> None:
    drawing = draw_bars(_one(2.0, 1, 7))

    (bar,) = drawing.bars
    end = drawing.left + X.place(7) * (drawing.right - drawing.left)
    assert bar.whisker
    assert bar.value is not None
    assert ("2.000", True) == (bar.value.text, bar.value.x > end)


def test_an_interval_beyond_the_axis_ends_in_an_arrow() -> None:
    (within,) = draw_bars(_one(2.0, 1, 7)).bars
    (beyond,) = draw_bars(_one(2.0, 1, math.inf)).bars

    assert (0, 1) == (within.whisker.count("l-"), beyond.whisker.count("l-"))


@given(st.lists(st.tuples(NAMES, FIGURES, FIGURES), min_size=1, max_size=12))
def test_everything_stays_inside_whatever_was_measured(given_bars: list[tuple[str, float, float]]) -> None:
    bars = [Bar(label, "run-1", value, end, end, "1.234") for label, value, end in given_bars if not math.isnan(end)]
    drawing = draw_bars(BarChart("what is seen", X, [BarGroup("400 B", bars)], bounds=[Bound("bound", 3)]))

    for bar in drawing.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= drawing.right + 0.2
        assert bar.value is not None
        assert bar.value.x + 8 * len(bar.value.text) <= WIDTH
    for name in drawing.names:
        length = 7.5 * len(name.text)
        assert (name.x - length if name.anchor == "end" else name.x) >= 0
        assert (name.x if name.anchor == "end" else name.x + length) <= WIDTH
    assert all(above.y + above.height <= below.y for above, below in pairwise(drawing.bars))


def test_a_stack_is_one_row_as_long_as_its_sum() -> None:
    parts = [Bar(name, f"run-{number}", number) for number, name in enumerate(("hop", "parse", "resolve"), 1)]

    drawing = draw_bars(BarChart("what is seen", linear("ms", 6), [BarGroup("gateway", parts)], stacked=True))

    assert ["hop", "parse", "resolve"] == [key.label.text for key in drawing.keys]
    assert 1 == len({bar.y for bar in drawing.bars})
    assert drawing.right == pytest.approx(drawing.bars[-1].x + drawing.bars[-1].width, abs=1.2)
    assert ["gateway", "6"] == [name.text for name in drawing.names]


@pytest.mark.parametrize("part", [Bar("a", "run-1", -1), Bar("a", "run-1", math.inf), Bar("a", "run-1", 1, 0, 2)])
def test_a_stack_refuses_what_it_cannot_show(part: Bar) -> None:
    with pytest.raises(ValueError, match="part of a stack"):
        BarChart("what is seen", X, [BarGroup("", [part])], stacked=True)
