"""Tails against exact sums of fractions, and against what everybody knows of sigma."""

from fractions import Fraction
from math import comb, inf

import pytest

from lab.measure.binomial import in_words, least_trials, sigmas, tail


def exact(successes: int, trials: int, percent: int) -> Fraction:
    share = Fraction(percent, 100)
    upper = successes >= trials * share
    counts = range(successes, trials + 1) if upper else range(successes + 1)
    return sum((comb(trials, one) * share**one * (1 - share) ** (trials - one) for one in counts), Fraction(0))


@pytest.mark.parametrize("percent", [1, 5, 37, 50, 99])
@pytest.mark.parametrize("trials", [1, 7, 200])
def test_tails_are_exact(trials: int, percent: int) -> None:
    for successes in range(trials + 1):
        assert tail(successes, trials, percent / 100) == pytest.approx(
            float(exact(successes, trials, percent)), rel=1e-9
        )


def test_shares_of_nothing_and_of_all_allow_nothing_else() -> None:
    assert (tail(0, 5, 0.0), tail(1, 5, 0.0)) == (1.0, 0.0)
    assert (tail(5, 5, 1.0), tail(4, 5, 1.0)) == (1.0, 0.0)


def test_a_large_count_is_near_the_normal_distribution() -> None:
    # n = 1,000,000 halves have a sigma of 500.
    for sigma in (1, 3, 5):
        assert sigmas(tail(500_000 + 500 * sigma, 1_000_000, 0.5)) == pytest.approx(sigma, abs=0.01)
        assert sigmas(tail(500_000 - 500 * sigma, 1_000_000, 0.5)) == pytest.approx(sigma, abs=0.01)


def test_sigmas_are_those_of_one_side() -> None:
    assert sigmas(2.866515719e-7) == pytest.approx(5)
    assert (0.0, 0.0, inf) == (sigmas(0.5), sigmas(1.0), sigmas(0.0))
    assert (in_words(1.94), in_words(inf)) == ("1.9 sigma", "over 37 sigma")


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.95])
def test_with_the_least_trials_nothing_at_all_is_beyond_the_bound_and_with_one_less_it_is_not(share: float) -> None:
    enough = least_trials(share, 5)
    rare = min(share, 1 - share)

    assert sigmas(tail(0, enough, rare)) > 5 >= sigmas(tail(0, enough - 1, rare))


def test_the_least_trials_are_those_that_the_split_checker_tells() -> None:
    assert [least_trials(share, 5) for share in (0.5, 0.05, 0.01, 0.0, 1.0)] == [22, 294, 1_499, 1, 1]
