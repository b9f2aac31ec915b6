"""Verdicts on two revisions: what is planted into measurements is found, and nothing is found in the same twice."""

import math
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import pytest

from lab.plugins.bench.since.figures import FIGURES, MEDIAN, Figure
from lab.plugins.bench.since.revisions import Change, Comparison, compare, student
from lab.plugins.bench.since.rounds import Result

RECORDED = Path(__file__).with_name("revisions-recorded.json")
"""One commit against itself, by ``lab bench since HEAD``, on two cores that other work kept busy."""


def made(
    rounds: int, *, scatter: float = 0.02, new: float = 1.0, again: float = 1.0, seed: int = 1
) -> list[list[float]]:
    """Rounds of a figure, each at a speed of its own, as machines drift."""
    draw = Random(seed)  # noqa: S311 (no secret)
    speeds = [math.exp(draw.gauss(0, 0.2)) for _ in range(rounds)]
    return [[by * speed * math.exp(draw.gauss(0, scatter)) for by in (1.0, new, again)] for speed in speeds]


@cache
def recorded() -> dict[str, list[tuple[float, ...]]]:
    return Result.read(RECORDED).rounds


def drawn(figure: Figure, count: int, seed: int, slowdown: float) -> Comparison:
    """Compares rounds drawn from recorded ones, whose places change at random, with a slowdown planted in the new."""
    draw = Random(seed)  # noqa: S311 (no secret)
    by = 1 / slowdown if figure.more_is_better else slowdown
    rounds = [draw.sample(draw.choice(recorded()[figure.name]), 3) for _ in range(count)]
    planted = [[old, new * by, again] for old, new, again in rounds]
    return compare(planted, margin=figure.margin, more_is_better=figure.more_is_better)


@pytest.mark.parametrize(
    ("rounds", "new", "verdict"),
    [
        (8, 1.0, Change.SAME),
        (8, 1.1, Change.SLOWER),
        (8, 0.9, Change.FASTER),
        (8, 1.05, Change.UNDECIDED),
        (2, 10.0, Change.SLOWER),
        (2, 1.05, Change.UNDECIDED),
        (1, 10.0, Change.UNDECIDED),
    ],
)
def test_a_verdict_takes_the_whole_interval(rounds: int, new: float, verdict: Change) -> None:
    found = compare(made(rounds, new=new), margin=MEDIAN)
    assert verdict is found.verdict
    assert (verdict is Change.UNDECIDED) == bool(found.why)


def test_where_more_is_better_less_is_slower() -> None:
    found = compare(made(8, new=0.9), margin=MEDIAN, more_is_better=True)
    assert found.verdict is Change.SLOWER
    assert found.cost.low <= 1 / found.ratio.estimate <= found.cost.high


def test_drift_within_rounds_cancels() -> None:
    drifting = [[old, new * 1.1, again * 1.21] for old, new, again in made(8)]
    assert compare(drifting, margin=MEDIAN).ratio.estimate == pytest.approx(1, abs=0.03)


def test_a_control_that_disagrees_leaves_a_figure_undecided() -> None:
    found = compare(made(8, new=1.2, again=1.4), margin=MEDIAN)
    assert found.verdict is Change.UNDECIDED
    assert "control" in found.why


def test_the_rounds_that_it_asks_for_decide() -> None:
    few = compare(made(3, new=1.1, scatter=0.05), margin=MEDIAN)
    assert few.verdict is Change.UNDECIDED
    many = compare(made(2 * few.rounds_needed, new=1.1, scatter=0.05), margin=MEDIAN)
    assert many.verdict is Change.SLOWER


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    n, true = 1_000, 1.07
    found = [compare(made(4, scatter=0.1, new=true, seed=seed), margin=MEDIAN).ratio for seed in range(n)]
    missed = sum(not each.low <= true <= each.high for each in found)
    assert abs(missed - 0.05 * n) < 4 * math.sqrt(0.05 * 0.95 * n)


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (4, 2.776), (10, 2.228), (30, 2.042)])
def test_student_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert student(0.95, freedom) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("rounds", [[], [[1.0, 0.0, 1.0]], [[1.0, math.nan, 1.0]]], ids=["none", "zero", "gap"])
def test_without_measurements_there_is_nothing_to_compare(rounds: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        compare(rounds, margin=MEDIAN)


@pytest.mark.parametrize("name", recorded())
def test_slowdowns_planted_into_recorded_noise_are_found_and_none_without(name: str) -> None:
    figure, seeds = FIGURES[name], range(20)
    planted = 1.1 if figure.margin == MEDIAN else 1.25
    # As many as that machine's scatter takes, to find 98 % of them: six on a quiet one, hundreds on a busy one.
    beyond = math.log(planted / (1 + figure.margin))
    count = max(6, math.ceil(1.5 * ((1.96 + 2.05) * drawn(figure, 60, 0, 1.0).scatter / beyond) ** 2))
    found = Counter(drawn(figure, count, seed, planted).verdict for seed in seeds)
    assert found[Change.SLOWER] >= len(seeds) * 3 // 4
    without = Counter(drawn(figure, count, seed, 1.0).verdict for seed in seeds)
    assert not without[Change.SLOWER]
    assert not without[Change.FASTER]
