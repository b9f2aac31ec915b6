"""Comparisons by paired, interleaved rounds: every arm is measured once a round, and only within a round.

The machine's mood changes from minute to minute; what is measured side by side shares it, so it cancels in the
difference or ratio of a round. The estimate is the median over rounds, its interval the percentile bootstrap over
rounds (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_RESAMPLES_OF_VALUES = 2_000  # where each resample sorts thousands of values

Arm = TypeVar("Arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and what it may as well be; in the unit of what was compared, a ratio has none.

    Attributes:
        estimate: median over rounds.
        low: lower end of the confidence interval; an order statistic, never interpolated.
        high: upper end.
        confidence: share of such intervals that hold the true median, e.g. 0.95.
        rounds: number of rounds.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    rounds: int


def interleave(arms: Sequence[Arm], rounds: int, *, seed: int) -> list[list[Arm]]:
    """In which order to measure: each round has every arm once, in an order of its own.

    Were the order always the same, what a measurement leaves behind (warm caches, hot cores) would fall on the same
    arm in each round, and look like a property of it.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    return [draw.sample(list(arms), len(arms)) for _ in range(rounds)]


def median(values: Sequence[float], *, seed: int, confidence: float = CONFIDENCE) -> Interval:
    """Median of one value a round.

    Args:
        values: one a round; infinite ones are allowed, and may make an end of the interval infinite.
        seed: of the resampling; the same seed gives the same interval.
        confidence: between 0 and 1.

    Raises:
        ValueError: no values, a value that is no number, or a confidence out of range.
    """
    sample = np.asarray(values, dtype=np.float64)
    _check_rounds(sample, confidence)
    draws = np.random.default_rng(seed).integers(0, len(sample), size=(RESAMPLES, len(sample)))
    medians = np.median(sample[draws], axis=1)
    tail = 100 * (1 - confidence) / 2
    return Interval(
        estimate=float(np.median(sample)),
        # Outward order statistics: between a number and infinity there is nothing to interpolate.
        low=float(np.percentile(medians, tail, method="lower")),
        high=float(np.percentile(medians, 100 - tail, method="higher")),
        confidence=confidence,
        rounds=len(sample),
    )


def exact_median(values: Sequence[float], *, confidence: float) -> Interval:
    """Median of one value a round, with the interval of the sign test: from the j-th smallest to the j-th greatest.

    It holds the true median at least as often as it says, whatever the distribution and however few the rounds; the
    bootstrap's, close to certainty and with ten rounds, misses it several times as often. Where not even the smallest
    and the greatest reach the confidence the interval has no ends: so few rounds can show nothing.

    Raises:
        ValueError: as :func:`median`.
    """
    sample = np.sort(np.asarray(values, dtype=np.float64))
    _check_rounds(sample, confidence)
    count = len(sample)
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


def quantile(values: Sequence[float], share: float, *, seed: int, confidence: float = CONFIDENCE) -> Interval:
    """A quantile of one value a round, e.g. the 99th percentile with a share of 0.99; nearest rank, upwards.

    The interval says how much of it is owed to these very rounds. Of fewer rounds than 1 / (1 - share) it is the
    greatest value, and no interval can say how much more there may be.
    """
    sample = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(sample), size=(RESAMPLES, len(sample)))
    quantiles = np.quantile(sample[draws], share, axis=1, method="higher")
    tail = 100 * (1 - confidence) / 2
    return Interval(
        estimate=float(np.quantile(sample, share, method="higher")),
        low=float(np.percentile(quantiles, tail, method="lower")),
        high=float(np.percentile(quantiles, 100 - tail, method="higher")),
        confidence=confidence,
        rounds=len(sample),
    )


def median_difference(a: Sequence[float], b: Sequence[float], *, seed: int, confidence: float = CONFIDENCE) -> Interval:
    """Median over rounds of ``a - b``: what A costs more than B, in their unit.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    return median([one - other for one, other in zip(a, b, strict=True)], seed=seed, confidence=confidence)


def median_ratio(a: Sequence[float], b: Sequence[float], *, seed: int, confidence: float = CONFIDENCE) -> Interval:
    """Median over rounds of ``a / b``: how many times B's value A's is.

    A round in which B measured nothing above zero says nothing of how many times, and counts as infinite.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    return median([_ratio(one, other) for one, other in zip(a, b, strict=True)], seed=seed, confidence=confidence)


def quantile_ratio(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    share: float,
    *,
    seed: int,
    confidence: float = CONFIDENCE,
) -> Interval:
    """How many times B's quantile A's is, e.g. of the 99th percentile with a share of 0.99; nearest rank, upwards.

    The values of a round are too few for a high quantile, so those of all rounds are put together. Rounds are resampled
    whole: what a round's mood does to its values, it does to all of them.

    Args:
        a: the arm in question, some values a round, e.g. latencies.
        b: the yardstick, in the same rounds.
        share: 0 to 1.
        seed: of the resampling.
        confidence: between 0 and 1.

    Raises:
        ValueError: no rounds, not the same number of them, or one in which an arm has no values.
    """
    rounds = [(np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in zip(a, b, strict=True)]
    _check_rounds(np.array([[arm.sum() if len(arm) else math.nan for arm in pair] for pair in rounds]), confidence)
    draws = np.random.default_rng(seed).integers(0, len(rounds), size=(_RESAMPLES_OF_VALUES, len(rounds)))
    ratios = [_quantiles_ratio([rounds[number] for number in draw], share) for draw in draws]
    tail = 100 * (1 - confidence) / 2
    return Interval(
        estimate=_quantiles_ratio(rounds, share),
        low=float(np.percentile(ratios, tail, method="lower")),
        high=float(np.percentile(ratios, 100 - tail, method="higher")),
        confidence=confidence,
        rounds=len(rounds),
    )


def _quantiles_ratio(rounds: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], share: float) -> float:
    above, below = (np.concatenate([pair[arm] for pair in rounds]) for arm in (0, 1))
    return _ratio(float(np.quantile(above, share, method="higher")), float(np.quantile(below, share, method="higher")))


def added_ratio(
    a: Sequence[float],
    b: Sequence[float],
    base: Sequence[float],
    *,
    seed: int,
    confidence: float = CONFIDENCE,
) -> Interval:
    """What A adds, as a multiple of what B adds: ``median(a - base) / median(b - base)``.

    The differences are those of each round; the ratio is of their medians, because in a short round what is added may
    be no more than its scatter, and a ratio of two such numbers is none. Rounds are resampled whole. Where B added
    nothing the ratio is infinite: that can spoil the claim that A adds little, never support it.

    Args:
        a: the arm in question, e.g. p50 through the mesh, ms, one a round.
        b: the yardstick, e.g. p50 through a bare static Envoy in the same rounds.
        base: what both add to, e.g. p50 of direct calls in the same rounds.
        seed: of the resampling.
        confidence: between 0 and 1.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    added = np.array(
        [(one - floor, other - floor) for one, other, floor in zip(a, b, base, strict=True)], dtype=np.float64
    )
    _check_rounds(added, confidence)
    draws = np.random.default_rng(seed).integers(0, len(added), size=(RESAMPLES, len(added)))
    ratios = [_ratio(one, other) for one, other in np.median(added[draws], axis=1)]
    tail = 100 * (1 - confidence) / 2
    return Interval(
        estimate=_ratio(*np.median(added, axis=0)),
        low=float(np.percentile(ratios, tail, method="lower")),
        high=float(np.percentile(ratios, 100 - tail, method="higher")),
        confidence=confidence,
        rounds=len(added),
    )


def _check_rounds(sample: NDArray[np.float64], confidence: float) -> None:
    if not len(sample):
        raise ValueError("no rounds: there is nothing to compare")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence}: it lies between 0 and 1")
    if np.isnan(sample).any():
        raise ValueError(f"round {int(np.argwhere(np.isnan(sample))[0][0])} has no value")


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else math.inf
