"""Axes: what they span, and what is written beside them."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.report.scales import linear, logarithmic, nines_of, payloads, percentiles

POSITIVE = st.floats(1e-3, 1e7)


@given(POSITIVE, POSITIVE)
def test_a_logarithmic_axis_holds_its_values_with_few_ticks(a: float, b: float) -> None:
    low, high = sorted((a, b))

    scale = logarithmic("ms", low, high)

    assert -1e-6 <= scale.place(low) <= scale.place(high) <= 1 + 1e-6
    assert 2 <= len(scale.ticks) <= 12


@given(POSITIVE)
def test_a_linear_axis_holds_its_values_with_few_ticks(high: float) -> None:
    scale = linear("rps", high)

    assert scale.place(0) == 0
    assert 0.5 < scale.place(high) <= 1 + 1e-6
    assert 2 <= len(scale.ticks) <= 10
    assert scale.ticks[-1][0] == pytest.approx(scale.high)


def test_ticks_are_round() -> None:
    assert [text for _, text in linear("rps", 203).ticks] == ["0", "50", "100", "150", "200", "250"]
    assert [text for _, text in logarithmic("ms", 1.3, 13).ticks] == ["1", "2", "5", "10", "20"]
    assert [text for _, text in logarithmic("ms", 0.11, 900).ticks] == ["0.1", "1", "10", "100", "1,000"]


def test_an_axis_to_its_end_has_no_tick_beyond() -> None:
    scale = linear("s", 5.4, to_tick=False)

    assert (scale.high, scale.ticks[-1][0]) == (5.4, 5.0)


def test_nothing_at_all_still_has_an_axis() -> None:
    assert linear("rps", 0).place(0) == 0


def test_each_nine_is_as_wide_as_the_one_before() -> None:
    scale = percentiles("percentile", 99.995)

    assert [text for _, text in scale.ticks] == ["p0", "p50", "p90", "p99", "p99.9", "p99.99"]
    places = [scale.place(value) for value, _ in scale.ticks if value != 50]
    widths = [after - before for before, after in pairwise(places)]
    assert widths == pytest.approx([widths[0]] * 4)


def test_nines() -> None:
    assert pytest.approx([nines_of(each) for each in (0, 90, 99, 99.9)]) == [0, 1, 2, 3]
    assert math.isclose(math.log10(2), nines_of(50))


def test_sizes_stand_where_they_were_measured() -> None:
    scale = payloads([4_100_000, 400, 27_000, 400])

    assert [text for _, text in scale.ticks] == ["400 B", "27 KB", "4.1 MB"]
    assert (scale.place(400), scale.place(4_100_000)) == (0, 1)
    assert payloads([400]).place(400) == pytest.approx(0.5)


def test_a_linear_axis_goes_below_nothing_where_values_do() -> None:
    assert [text for _, text in linear("ms", 1.9, low=-0.8).ticks] == ["−1", "−0.5", "0", "0.5", "1", "1.5", "2"]
    assert (linear("ms", -0.2, low=-1).low, linear("ms", -0.2, low=-1).high) == (-1.0, 0.0)
