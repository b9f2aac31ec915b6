"""Pages predicted from single calls: where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lab.errors import InputError
from lab.plugins.capacity.pages import Singles, predict_pages


def test_a_page_takes_its_slowest_call_and_a_way_for_each_hop() -> None:
    singles = Singles(np.array([[1.0, 9.0, 2.0], [9.0, 3.0, 4.0]]), np.array([0.5]))

    assert {*predict_pages(singles, hops=1, seed=1).tolist()} == {9.5}
    assert {*predict_pages(singles, hops=3, seed=1).tolist()} == {10.5}


def test_a_page_of_independent_calls_has_their_maximums_quantile() -> None:
    random = np.random.default_rng(7)
    bursts = random.exponential(1.0, (20_000, 12))

    predicted = predict_pages(Singles(bursts, np.zeros(1)), hops=1, seed=1, pages=40_000)

    for share in (0.5, 0.99):  # F(t)^12 = share
        exact = -np.log1p(-(share ** (1 / 12)))
        assert np.quantile(predicted, share) == pytest.approx(exact, rel=0.05)


def test_calls_of_a_burst_that_are_slow_together_make_no_more_pages_slow_than_bursts() -> None:
    bursts = np.ones((100, 12))
    bursts[0] = 100.0

    slow = predict_pages(Singles(bursts, np.zeros(1)), hops=1, seed=1) > 1

    assert 0.002 < slow.mean() < 0.02  # drawn one by one, 11 % would be


def test_nothing_measured_predicts_nothing() -> None:
    with pytest.raises(InputError, match="no single call was measured"):
        Singles(np.empty((0, 12)), np.ones(3))
