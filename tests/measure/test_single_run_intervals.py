"""Intervals of one run: they hold the truth as often as they say, also where requests make each other wait."""

import math

import numpy as np
import pytest

from lab.measure.single_run_intervals import Figure, difference, independent_values, quantiles, ratio, share

RUNS, REQUESTS = 300, 3_000


def _waiting(memory: float, runs: int = RUNS) -> np.ndarray:
    """Latencies of some runs, whose logarithms remember: each standard normal, correlated with the one before."""
    draws = np.random.default_rng(0).standard_normal((REQUESTS, runs))
    values = np.empty_like(draws)
    values[0] = draws[0]
    for number in range(1, REQUESTS):
        values[number] = memory * values[number - 1] + math.sqrt(1 - memory**2) * draws[number]
    return np.exp(values.T)


@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize(("part", "normal"), [(0.5, 0.0), (0.9, 1.2816)])
def test_an_interval_holds_the_true_quantile_as_often_as_it_says(memory: float, part: float, normal: float) -> None:
    truth = math.exp(normal)

    figures = [quantiles(values, (part,))[0] for values in _waiting(memory)]

    held = sum(each.low <= truth <= each.high for each in figures)
    # 95 % of 300 is 285, sigma 3.8; batches of 100 see nearly all of a memory of 0.9, which lasts some 20 requests.
    assert held >= 285 - 5 * 3.8, f"{held} of {RUNS}"


def test_requests_taken_as_independent_would_promise_too_much() -> None:
    (values,), (others,) = _waiting(0.9, runs=1), _waiting(0.0, runs=1)

    # An AR(1) process of 0.9 has (1 + 0.9) / (1 - 0.9) = 19 times the variance of independent draws, its median less.
    assert REQUESTS / 40 < independent_values(values <= 1) < REQUESTS / 4
    assert independent_values(others <= 1) > REQUESTS / 2


def test_few_independent_values_have_the_exact_interval_of_order_statistics() -> None:
    values = np.arange(100.0) * 37 % 100 + 1  # as evenly mixed as can be

    [figure] = quantiles(values, (0.5,))

    # Of 100, the 40th to the 61st hold the median with 96.5 % (Conover, "Practical Nonparametric Statistics", 3.2).
    assert figure.independent == 100
    assert (figure.low, figure.estimate, figure.high) == (40.0, 50.0, 61.0)


@pytest.mark.parametrize(("count", "is_known"), [(300, False), (100_000, True)])
def test_too_few_values_say_nothing_of_how_long_the_slowest_may_take(count: int, is_known: bool) -> None:  # noqa: FBT001
    [figure] = quantiles(np.random.default_rng(0).random(count), (0.99,))

    assert is_known is math.isfinite(figure.high)
    assert figure.low <= figure.estimate <= figure.high


def test_no_failure_in_n_is_not_never() -> None:
    none = share(np.zeros(1_000, dtype=bool))

    assert 0.0 == none.low == none.estimate
    assert none.high == pytest.approx(1.96**2 / (1_000 + 1.96**2), rel=1e-3)


def test_failures_in_one_stretch_tell_less_than_failures_here_and_there() -> None:
    scattered = np.arange(1_000) % 10 == 0
    together = np.arange(1_000) < 100

    assert share(together).high > share(scattered).high > 0.1


def _figure(estimate: float, low: float, high: float) -> Figure:
    return Figure(estimate=estimate, low=low, high=high, confidence=0.95, count=10, independent=10)


def test_a_difference_is_as_uncertain_as_both_together() -> None:
    assert pytest.approx(difference(_figure(5, 2, 8), _figure(3, -1, 7))) == (2.0, 2.0 - 5.0, 2.0 + 5.0)
    assert difference(_figure(5, 4, math.inf), _figure(3, 3, 3)) == pytest.approx((2.0, 1.0, math.inf))


def test_a_ratio_is_one_of_logarithms() -> None:
    assert pytest.approx(ratio(_figure(4, 2, 8), _figure(2, 2, 2))) == (2.0, 1.0, 4.0)
    estimate, low, high = ratio(_figure(4, 2, 8), _figure(0, 0, 1))
    assert (math.inf, 0.0, math.inf) == (estimate, low, high)
    assert math.isnan(ratio(_figure(0, 0, 1), _figure(0, 0, 1))[0])


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantiles(np.array([]), (0.5,))
    with pytest.raises(ValueError, match="no requests"):
        share(np.array([], dtype=bool))
