"""Comparisons by paired, interleaved rounds: every variant is measured once in each round, and compared within it.

A shared machine drifts from minute to minute; variants measured in the same round share that drift, so it cancels in
the round's difference or ratio. The estimate is the median over rounds, its interval the percentile bootstrap over
rounds (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

NaN stands for a measurement that is missing: a comparison leaves its round out, and decides nothing without any.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_RESAMPLES_OF_VALUES = 2_000  # where each resample sorts thousands of values

Variant = TypeVar("Variant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate over rounds with its confidence interval, in the unit of the compared values; ratios have none.

    Its ends are order statistics, never interpolated. ``confidence`` is the share of such intervals that hold the true
    median, e.g. 0.95.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    rounds: int


def interleave(variants: Iterable[Variant], rounds: int, *, seed: int = 0) -> list[list[Variant]]:
    """The measuring order of each round: every variant once, shuffled.

    In a fixed order, what one measurement leaves behind (warm caches, hot cores) would hit the same variant in each
    round and look like a property of it.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    known = list(variants)
    return [draw.sample(known, len(known)) for _ in range(rounds)]


def median(values: Iterable[float], *, seed: int = 0, confidence: float = CONFIDENCE) -> Interval:
    """Median of one value for each round, with its bootstrap interval; infinite values may make an end of it infinite.

    Raises:
        ValueError: no values, or a confidence out of range.
    """
    sample = np.fromiter(values, np.float64)
    return _bootstrap(sample, lambda draws: np.median(sample[draws], axis=1), seed=seed, confidence=confidence)


def exactly(value: float, *, rounds: int) -> Interval:
    """A figure that is counted, not estimated, such as that of the worst of some rounds: its interval is a point."""
    return Interval(estimate=value, low=value, high=value, confidence=1.0, rounds=rounds)


def typical(values: Sequence[float]) -> float:
    """Median of the rounds in which there is a value; NaN if there are none."""
    return statistics.median(known) if (known := [each for each in values if not math.isnan(each)]) else math.nan


def exact_median(values: Sequence[float], *, confidence: float) -> Interval:
    """Median of one value for each round, with the sign test's interval: from the j-th smallest to the j-th greatest.

    Its coverage is at least the stated confidence for every distribution and number of rounds; the bootstrap's, at high
    confidence and ten rounds, misses the median several times as often. Where even the smallest and greatest value do
    not reach the confidence, the interval is infinite: so few rounds cannot decide.

    Raises:
        ValueError: as :func:`median`.
    """
    rounds = np.asarray(values, dtype=np.float64)
    sample = np.sort(rounds[_measured(rounds, confidence)])
    count = len(sample)
    if not count:
        return _nothing(confidence)
    outside, j = 0.0, 0
    while j < count // 2 and 2 * (outside + math.comb(count, j) / 2**count) <= 1 - confidence:
        outside += math.comb(count, j) / 2**count
        j += 1
    return Interval(
        estimate=float(np.median(sample)),
        low=float(sample[j - 1]) if j else -math.inf,
        high=float(sample[count - j]) if j else math.inf,
        confidence=confidence,
        rounds=count,
    )


def quantile(values: Sequence[float], share: float, *, seed: int = 0) -> Interval:
    """A quantile of one value for each round, e.g. the 99th percentile with a share of 0.99; nearest rank, upwards.

    The interval covers the scatter between rounds. With fewer rounds than 1 / (1 - share) the quantile is the greatest
    value, and the interval cannot extend beyond it.
    """
    sample = np.asarray(values, dtype=np.float64)
    return _bootstrap(sample, lambda draws: np.quantile(sample[draws], share, axis=1, method="higher"), seed=seed)


def median_difference(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Interval:
    """Median over rounds of ``a - b``: what A costs beyond B, in their unit.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    return median([one - other for one, other in zip(a, b, strict=True)], seed=seed)


def median_ratio(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Interval:
    """Median over rounds of ``a / b``; a round in which B is not above zero counts as infinite.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    return median([_ratio(one, other) for one, other in zip(a, b, strict=True)], seed=seed)


def quantile_ratio(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], share: float, *, seed: int = 0
) -> Interval:
    """A's quantile over B's, e.g. of the 99th percentile with a share of 0.99; nearest rank, upwards.

    One round has too few values for a high quantile, so the values of all rounds are pooled. Rounds are resampled
    whole, as drift affects all values of a round together.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    pairs = [(np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in zip(a, b, strict=True)]
    sums = np.array([[values.sum() if len(values) else math.nan for values in pair] for pair in pairs])

    def ratio(draw: Iterable[int]) -> float:
        sides = zip(*(pairs[number] for number in draw), strict=True)
        return _ratio(*(float(np.quantile(np.concatenate(side), share, method="higher")) for side in sides))

    return _bootstrap(sums, lambda draws: [ratio(draw) for draw in draws], seed=seed, resamples=_RESAMPLES_OF_VALUES)


def added_ratio(a: Sequence[float], b: Sequence[float], base: Sequence[float], *, seed: int = 0) -> Interval:
    """What A adds, as a multiple of what B adds: ``median(a - base) / median(b - base)``.

    Differences are taken within each round and the ratio of their medians, because in a short round the added cost may
    be as small as its scatter. Rounds are resampled whole. Where B adds nothing the ratio is infinite, which can refute
    the claim that A adds little but never support it.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    added = np.array(
        [(one - floor, other - floor) for one, other, floor in zip(a, b, base, strict=True)], dtype=np.float64
    )
    return _bootstrap(added, lambda draws: [_ratio(*pair) for pair in np.median(added[draws], axis=1)], seed=seed)


def _bootstrap(
    rounds: NDArray[np.float64],
    statistic: Callable[[NDArray[np.int64]], ArrayLike],
    *,
    seed: int,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval:
    """The statistic of all rounds, with its percentile interval over resamples; it takes rows of rounds' indices."""
    measured = _measured(rounds, confidence)
    if not len(measured):
        return _nothing(confidence)
    draws = measured[np.random.default_rng(seed).integers(0, len(measured), size=(resamples, len(measured)))]
    [estimate], spread = (np.asarray(statistic(of), np.float64) for of in (measured[np.newaxis], draws))
    tail = 100 * (1 - confidence) / 2
    return Interval(
        estimate=float(estimate),
        # Outward order statistics: between a number and infinity there is nothing to interpolate.
        low=float(np.percentile(spread, tail, method="lower")),
        high=float(np.percentile(spread, 100 - tail, method="higher")),
        confidence=confidence,
        rounds=len(measured),
    )


def _measured(rounds: NDArray[np.float64], confidence: float) -> NDArray[np.int64]:
    """The numbers of the rounds in which everything was measured; elsewhere a value is NaN."""
    if not len(rounds):
        raise ValueError("no rounds: there is nothing to compare")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence}: it lies between 0 and 1")
    return np.flatnonzero(~np.isnan(rounds.reshape(len(rounds), -1)).any(axis=1))


def _nothing(confidence: float) -> Interval:
    """Of no round: it decides nothing."""
    return Interval(estimate=math.nan, low=-math.inf, high=math.inf, confidence=confidence, rounds=0)


def _ratio(numerator: float, denominator: float) -> float:
    return math.inf if denominator <= 0 else float(numerator / denominator)
