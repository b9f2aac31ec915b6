"""Bar charts: lengths tell values, names stay apart, and nothing that cannot be seen is drawn."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.report.bars import Bar, BarChart, BarGroup, Bound, spec_of_bars
from lab.report.chart import CHARACTER, WIDTH
from lab.report.picture import to_svg
from lab.report.scales import linear

X = linear("ms", 10, low=-10)
NAMES = st.text("abcdefgh- ", max_size=60)
FIGURES = st.floats(allow_nan=True, allow_infinity=True)


def one(value: float, low: float | None = None, high: float | None = None) -> BarChart:
    return BarChart("what is seen", X, [BarGroup("", [Bar("mesh", "run-1", value, low, high)])])


def drawn(chart: BarChart, kind: str) -> list[dict[str, Any]]:
    """What is drawn by marks of a kind, each as its data."""
    return [
        value
        for layer in spec_of_bars(chart)["layer"]
        if layer["mark"].get("shape", layer["mark"]["type"]) == kind
        for value in layer["data"]["values"]
    ]


def test_a_bar_goes_from_nothing_to_its_value() -> None:
    (forwards,), (backwards,) = (drawn(one(value), "bar") for value in (5, -5))

    assert (forwards["x"], forwards["end"]) == (0, 5)
    assert (backwards["x"], backwards["end"]) == (0, -5)


def test_the_value_stands_beyond_the_interval() -> None:
    (text,) = drawn(one(2.0, 1, 7), "text")

    assert (text["text"], text["x"]) == ("2.000", 7)


def test_an_interval_beyond_the_axis_ends_in_an_arrow() -> None:
    within, beyond = one(2.0, 1, 7), one(2.0, 1, math.inf)

    assert (len(drawn(within, "tick")), len(drawn(within, "triangle-right"))) == (2, 0)
    assert (len(drawn(beyond, "tick")), len(drawn(beyond, "triangle-right"))) == (1, 1)
    assert drawn(beyond, "triangle-right")[0]["high"] == 10


@given(st.lists(st.tuples(NAMES, FIGURES, FIGURES), min_size=1, max_size=12))
def test_everything_stays_inside_whatever_was_measured(given_bars: list[tuple[str, float, float]]) -> None:
    bars = [Bar(label, "run-1", value, end, end, "1.234") for label, value, end in given_bars if not math.isnan(end)]
    chart = BarChart("what is seen", X, [BarGroup("400 B", bars)], bounds=[Bound("bound", 3)])

    spec = spec_of_bars(chart)

    json.dumps(spec, allow_nan=False)
    left = spec["encoding"]["y"]["axis"]["minExtent"]
    longest = max((len(text["text"]) for text in drawn(chart, "text") if "text" in text), default=0)
    assert left + spec["width"] + longest * CHARACTER + spec["padding"]["right"] <= WIDTH
    longest_name = max((len(bar.label) for bar in bars), default=0)
    assert longest_name > 26 or left >= 9 * longest_name  # longer names are headings
    for bar in drawn(chart, "bar"):
        assert X.low <= bar["end"] <= X.high
        assert X.low <= bar["furthest"] <= X.high
    # No two bars in one row, and no two names of bars and groups.
    rows = [each["row"] for each in drawn(chart, "bar")]
    assert len(set(rows)) == len(rows)
    names = [each["row"] for each in drawn(chart, "text") if "heading" in each]
    assert len(set(names)) == len(names)
    assert set(names).isdisjoint(each["row"] for each in drawn(chart, "bar"))


def test_a_long_name_stands_above_its_bar() -> None:
    name = "protobuf needs at most half of what JSON needs"
    chart = BarChart("what is seen", X, [BarGroup("", [Bar(name, "run-1", 1)])])

    (heading,) = [each for each in drawn(chart, "text") if "heading" in each]
    (bar,) = drawn(chart, "bar")
    assert (heading["heading"], heading["row"] + 1) == (name, bar["row"])


def test_a_stack_is_one_row_as_long_as_its_sum() -> None:
    parts = [Bar(name, f"run-{number}", number) for number, name in enumerate(("hop", "parse", "resolve"), 1)]
    chart = BarChart("what is seen", linear("ms", 6), [BarGroup("gateway", parts)], stacked=True)

    bars = drawn(chart, "bar")

    assert [(bar["x"], bar["end"]) for bar in bars] == [(0, 1), (1, 3), (3, 6)]
    assert len({bar["row"] for bar in bars}) == 1
    assert [text["text"] for text in drawn(chart, "text")][-1] == "6"
    svg = to_svg(chart)
    for name in ("hop", "parse", "resolve", "gateway"):
        assert f">{name}</text>" in svg


@pytest.mark.parametrize("part", [Bar("a", "run-1", -1), Bar("a", "run-1", math.inf), Bar("a", "run-1", 1, 0, 2)])
def test_a_stack_refuses_what_it_cannot_show(part: Bar) -> None:
    with pytest.raises(ValueError, match="part of a stack"):
        BarChart("what is seen", X, [BarGroup("", [part])], stacked=True)
