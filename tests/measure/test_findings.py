"""What a claim says of itself: whether it holds, and how many rounds would decide it."""

import math

import numpy as np
import pytest

from lab.measure.compare import Interval, median
from lab.measure.findings import Claim, State, in_two_digits


def claim(
    estimate: float, low: float, high: float, *, at_least: float | None = None, at_most: float | None = None
) -> Claim:
    figure = Interval(estimate=estimate, low=low, high=high, confidence=0.95, rounds=10)
    return Claim("a figure", figure, at_least=at_least, at_most=at_most)


@pytest.mark.parametrize(
    ("undecided", "rounds"),
    [
        # The side of the interval that holds the bound must be half as wide: four times the rounds.
        (claim(100, 80, 120, at_most=110), 40),
        (claim(100, 80, 120, at_least=90), 40),
        (claim(100, 60, 120, at_least=90, at_most=110), 160),
        # To fail, one bound is enough: the lower end must leave 90, not 85.
        (claim(100, 80, 120, at_least=85, at_most=90), 40),
        (claim(100, 80, 120, at_most=119.9), 11),
        (claim(100, 80, 120, at_most=100), None),
        (claim(100, 80, math.inf, at_most=110), None),
    ],
)
def test_an_undecided_claim_says_how_many_rounds_would_decide_it(undecided: Claim, rounds: int | None) -> None:
    assert (undecided.state, undecided.rounds_needed) == (State.UNDECIDED, rounds)
    assert undecided.to_document()["rounds_needed"] == rounds
    assert undecided.state_in_words == "undecided" + (f"; about {rounds} rounds would decide" if rounds else "")


@pytest.mark.parametrize(
    "other",
    [
        claim(100, 80, 120, at_most=130),
        claim(100, 80, 120, at_most=70),
        Claim("in doubt", claim(100, 80, 120).figure, at_most=110, doubts=("the driver was late",)),
        claim(math.nan, -math.inf, math.inf, at_most=110),
    ],
)
def test_no_number_of_rounds_is_named_where_the_width_is_not_what_leaves_it_open(other: Claim) -> None:
    assert other.rounds_needed is None
    assert other.state_in_words == other.state


def test_that_many_rounds_decide_it() -> None:
    draw = np.random.default_rng(5)
    few = Claim("a median", median(draw.normal(1.0, 0.5, 12)), at_most=1.25)
    assert few.rounds_needed is not None
    more = draw.normal(1.0, 0.5, 2 * few.rounds_needed)
    assert Claim("a median", median(more), at_most=1.25).state is State.HOLDS


@pytest.mark.parametrize(
    ("value", "text"), [(1_234_567, "1,200,000"), (187, "190"), (2.405, "2.4"), (0.376, "0.38"), (12, "12")]
)
def test_rough_numbers_have_two_significant_digits(value: float, text: str) -> None:
    assert in_two_digits(value) == text
