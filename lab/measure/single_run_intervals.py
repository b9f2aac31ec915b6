"""Confidence intervals for the figures of a single run.

Requests of one run are not independent: one that waits makes the next wait. Treating n requests as independent would
overstate the evidence. So n is divided by the *design effect*: the variance of a share between 30 batches of
consecutive requests, over that of independent requests (batch means; Law, "Simulation Modeling and Analysis", chapter
9; Kish, "Survey Sampling", 1965). With the resulting effective sample size, a quantile gets the exact interval of order
statistics (Woodruff, JASA 47, 1952), and a share Wilson's (JASA 22, 1927).

Such an interval does not cover drift of the machine over longer times than a thirtieth of the run, nor between runs.
Two runs one after another share no rounds; a bench, which interleaves its variants, is stronger evidence.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lab.measure.binomial import tail
from lab.measure.compare import CONFIDENCE, Interval

if TYPE_CHECKING:
    import numpy.typing as npt

    Ranged: TypeAlias = "Figure | Interval"

BATCHES = 30

# The variance is estimated from 30 batches: Student's quantile with 29 degrees of freedom over the normal one.
_T_OVER_Z = 2.045 / 1.960
_ROUNDING = 1e-9  # as in lab.measure.latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An estimate with its confidence interval, in the unit of the values; infinite at the top with too few of them.

    It is as much evidence as ``independent`` values would be, the effective sample size.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    count: int
    independent: float


def quantiles(values: npt.NDArray[np.float64], shares: Sequence[float]) -> list[Figure]:
    """Quantiles of values in order of time, one a share of 0 to 1, e.g. 0.99 for the p99; nearest rank.

    Raises:
        ValueError: no values.
    """
    count = len(values)
    if not count:
        raise ValueError("no values: there is nothing to take a quantile of")
    ordered = np.sort(values)
    result = []
    for share in shares:
        rank = max(1, math.ceil(count * share - _ROUNDING))
        estimate = float(ordered[rank - 1])
        independent = independent_values(values <= estimate)
        trials = max(1, int(independent))
        low, high = (of_few * count / trials for of_few in _ranks(trials, share))
        below, above = min(rank, math.floor(low)), max(rank, math.ceil(high))
        result.append(
            Figure(
                estimate=estimate,
                low=float(ordered[below - 1]) if below >= 1 else 0.0,
                high=float(ordered[above - 1]) if above <= count else math.inf,
                confidence=CONFIDENCE,
                count=count,
                independent=independent,
            )
        )
    return result


def share(hits: npt.NDArray[np.bool_]) -> Figure:
    """The share of requests that are hits, 0 to 1; requests in order of time.

    Raises:
        ValueError: no requests.
    """
    if not len(hits):
        raise ValueError("no requests: there is nothing to take a share of")
    estimate, independent = float(hits.mean()), independent_values(hits)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (estimate + z * z / (2 * independent)) / (1 + z * z / independent)
    half = z * math.sqrt(estimate * (1 - estimate) / independent + (z / (2 * independent)) ** 2)
    half /= 1 + z * z / independent
    return Figure(
        estimate=estimate,
        low=min(estimate, max(0.0, middle - half)),
        high=max(estimate, min(1.0, middle + half)),
        confidence=CONFIDENCE,
        count=len(hits),
        independent=independent,
    )


def independent_values(hits: npt.NDArray[np.bool_]) -> float:
    """The effective sample size of a share over requests in order of time; at most their number."""
    count, part = len(hits), float(hits.mean())
    batches = min(BATCHES, count)
    if batches < 2 or part in (0.0, 1.0):  # noqa: PLR2004 (one batch has no variance)
        return float(count)
    edges = np.linspace(0, count, batches + 1).astype(np.int64)
    sizes = np.diff(edges)
    means = np.add.reduceat(hits.astype(np.int64), edges[:-1]) / sizes
    scatter = float((sizes * (means - part) ** 2).sum()) / (batches - 1)
    return count / max(1.0, scatter * _T_OVER_Z**2 / (part * (1 - part)))


def difference(a: Ranged, b: Ranged) -> tuple[float, float, float]:
    """``a - b`` with the ends of its interval, for independent a and b.

    Each estimate's distance to an end of its interval is its scatter in that direction (MOVER; Zou and Donner,
    Statistics in Medicine 27, 2008), so that asymmetric intervals stay asymmetric.
    """
    return _difference((a.estimate, a.low, a.high), (b.estimate, b.low, b.high))


def ratio(a: Ranged, b: Ranged) -> tuple[float, float, float]:
    """``a / b`` with its interval, by the difference of logarithms; 0 to infinity unless both are above 0."""
    if b.estimate <= 0:
        return (math.inf if a.estimate > 0 else math.nan), 0.0, math.inf
    if a.estimate <= 0:
        return a.estimate / b.estimate, 0.0, math.inf
    estimate, low, high = _difference(*([_log(end) for end in (of.estimate, of.low, of.high)] for of in (a, b)))
    return math.exp(estimate), math.exp(low), math.exp(high)


def _difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Of estimates with the ends of their intervals."""
    (one, low, high), (other, its_low, its_high) = a, b
    below, above = math.hypot(one - low, its_high - other), math.hypot(high - one, other - its_low)
    return one - other, one - other - below, one - other + above


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _ranks(trials: int, share: float) -> tuple[int, int]:
    """Ranks of the order statistics that enclose the quantile; 0 and ``trials + 1`` stand for beyond the extremes."""
    miss, mean = (1 - CONFIDENCE) / 2, trials * share
    too_many = range(math.ceil(mean) + 1, trials + 1)
    # Values under the quantile: the tail grows up to the mean, and falls from there on.
    low = bisect_right(range(math.floor(mean)), miss, key=lambda below: tail(below, trials, share))
    return low, too_many.start + bisect_left(too_many, -miss, key=lambda above: -tail(above, trials, share))
