import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.measure.compare import (
    added_ratio,
    exact_median,
    interleave,
    median,
    median_difference,
    median_ratio,
    quantile,
    quantile_ratio,
)


def seeded() -> Random:
    return Random(1)  # noqa: S311 (no secret)


finite = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=30))
def test_the_estimate_lies_in_its_interval_and_the_interval_in_the_data(values: list[float]) -> None:
    seen = median(values, seed=1)

    assert min(values) <= seen.low <= seen.estimate <= seen.high <= max(values)
    assert len(values) == seen.rounds


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [seeded().gauss(1, 0.1) for _ in range(15)]

    assert median(values, seed=7) == median(values, seed=7)


def test_less_confidence_gives_a_narrower_interval() -> None:
    draw = seeded()
    values = [draw.gauss(1, 0.1) for _ in range(25)]

    wide, narrow = median(values, seed=1, confidence=0.99), median(values, seed=1, confidence=0.5)

    assert narrow.high - narrow.low < wide.high - wide.low


def test_intervals_hold_the_true_median_about_as_often_as_they_say() -> None:
    # 200 experiments of 25 rounds at 90 %: sigma of the share is sqrt(.9 * .1 / 200) = 0.021; 0.8 is near 5 sigma off.
    draw = seeded()
    held = 0
    for experiment in range(200):
        seen = median([draw.lognormvariate(0, 0.3) for _ in range(25)], seed=experiment, confidence=0.9)
        held += seen.low <= 1.0 <= seen.high

    assert held / 200 >= 0.8


def test_effects_that_rounds_share_cancel() -> None:
    draw = seeded()
    mood = [draw.uniform(1, 10) for _ in range(11)]

    difference = median_difference([one + 0.5 for one in mood], mood, seed=1)
    ratio = median_ratio([one * 1.5 for one in mood], mood, seed=1)

    assert (difference.estimate, difference.low, difference.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((1.5, 1.5, 1.5))


def test_added_ratio_is_what_a_adds_over_what_b_adds() -> None:
    seen = added_ratio(a=[0.8, 1.2, 0.9], b=[0.7, 0.9, 0.8], base=[0.4, 0.4, 0.4], seed=1)

    assert seen.estimate == pytest.approx(5 / 4)
    assert seen.low == pytest.approx(5 / 4)
    assert seen.high == pytest.approx(8 / 5)


def test_rounds_in_which_the_yardstick_added_nothing_widen_upwards() -> None:
    seen = added_ratio(a=[0.6] * 5, b=[0.6, 0.6, 0.6, 0.4, 0.3], base=[0.4] * 5, seed=1)

    assert seen.estimate == pytest.approx(1.0)
    assert math.inf == seen.high


def test_rounds_that_scatter_as_much_as_they_add_do_not_bend_the_ratio() -> None:
    draw = seeded()
    base = [draw.gauss(1.0, 0.1) for _ in range(400)]
    one = [floor + draw.gauss(0.3, 0.3) for floor in base]
    other = [floor + draw.gauss(0.2, 0.3) for floor in base]

    # sigma of each median is 1.25 * 0.3 / 20 = 0.019, of the ratio about 0.17.
    assert added_ratio(one, other, base, seed=1).estimate == pytest.approx(1.5, abs=0.6)


@pytest.mark.parametrize(
    ("values", "confidence", "says"),
    [([], 0.95, "no rounds"), ([1.0], 1.5, "between 0 and 1")],
)
def test_values_that_cannot_be_compared_are_refused(values: list[float], confidence: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        median(values, seed=1, confidence=confidence)


def test_a_round_in_which_something_is_missing_is_left_out_and_none_decides_nothing() -> None:
    whole, gap = [1.0, 2.0, 3.0, 4.0], [1.0, math.nan, 3.0, 4.0]

    assert median(gap, seed=1).rounds == 3
    assert median_ratio(gap, whole, seed=1) == median_ratio([1.0, 3.0, 4.0], [1.0, 3.0, 4.0], seed=1)
    assert added_ratio(whole, gap, [0.0] * 4, seed=1).rounds == median_ratio(whole, gap, seed=1).rounds == 3
    assert exact_median(gap, confidence=0.5) == exact_median([1.0, 3.0, 4.0], confidence=0.5)
    nothing = median([math.nan], seed=1)
    assert (math.isnan(nothing.estimate), nothing.low, nothing.high, nothing.rounds) == (True, -math.inf, math.inf, 0)


def test_arms_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        median_ratio([1.0, 2.0], [1.0], seed=1)


def test_each_round_has_every_arm_once_and_orders_differ() -> None:
    rounds = interleave(["direct", "gateway", "mesh"], 30, seed=1)

    assert [sorted(one) for one in rounds] == [["direct", "gateway", "mesh"]] * 30
    assert len({tuple(one) for one in rounds}) > 3
    assert rounds == interleave(["direct", "gateway", "mesh"], 30, seed=1)


def test_a_quantile_is_the_nearest_rank_upwards() -> None:
    values = [float(value) for value in range(1, 201)]

    assert quantile(values, 0.99, seed=0).estimate == 199.0
    assert quantile(values[:50], 0.99, seed=0).estimate == 50.0
    assert quantile(values, 0.5, seed=0).low < quantile(values, 0.5, seed=0).estimate


def test_a_ratio_of_quantiles_puts_the_rounds_together_and_keeps_each_whole() -> None:
    base = [float(value) for value in range(1, 101)]
    moods = (1.0, 2.0, 5.0)
    quiet = [[mood * value for value in base] for mood in moods]
    noisy = [[1.5 * mood * value for value in base] for mood in moods]

    found = quantile_ratio(noisy, quiet, 0.9, seed=0)

    # What a round's mood does, it does to both arms, so the ratio scatters no more than the moods differ.
    assert (found.estimate, found.low, found.high, found.rounds) == (1.5, 1.5, 1.5, 3)
    assert found == quantile_ratio(noisy, quiet, 0.9, seed=0)
    worse = quantile_ratio([*noisy[:2], quiet[2]], quiet, 0.9, seed=0)
    assert worse.low == 1.0
    assert worse.high == 1.5
    assert quantile_ratio([[1.0], [2.0]], [[], [2.0]], 0.9, seed=0).rounds == 1
    with pytest.raises(ValueError, match=r"shorter|longer"):
        quantile_ratio([[1.0]], [[1.0], [2.0]], 0.9, seed=0)
