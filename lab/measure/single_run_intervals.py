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
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lab.measure.binomial import tail
from lab.measure.compare import CONFIDENCE

if TYPE_CHECKING:
    import numpy.typing as npt

BATCHES = 30

# The variance is estimated from 30 batches: Student's quantile with 29 degrees of freedom over the normal one.
_T_OVER_Z = 2.045 / 1.960
_ROUNDING = 1e-9  # as in lab.measure.latency


class Ranged(Protocol):
    """Anything with an estimate and an interval."""

    @property
    def estimate(self) -> float:
        """The estimate."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end; infinite if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the estimate, in the unit of the values.
        low: lower end of the interval.
        high: upper end; infinite if there are too few values for one.
        confidence: share of such intervals that hold the true value, e.g. 0.95.
        count: number of values.
        independent: effective sample size: this many independent values are as much evidence.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    count: int
    independent: float


def quantile(values: npt.NDArray[np.float64], share: float, *, confidence: float = CONFIDENCE) -> Figure:
    """A quantile of values in order of time, e.g. the p99 with a share of 0.99; nearest rank.

    Args:
        values: in order of time, one or more.
        share: between 0 and 1, exclusive.
        confidence: between 0 and 1.

    Raises:
        ValueError: no values.
    """
    return quantiles(values, (share,), confidence=confidence)[0]


def quantiles(
    values: npt.NDArray[np.float64], shares: tuple[float, ...], *, confidence: float = CONFIDENCE
) -> list[Figure]:
    """Several quantiles; sorts the values once. See :func:`quantile`."""
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
        low, high = (of_few * count / trials for of_few in _ranks(trials, share, confidence))
        below, above = min(rank, math.floor(low)), max(rank, math.ceil(high))
        result.append(
            Figure(
                estimate=estimate,
                low=float(ordered[below - 1]) if below >= 1 else 0.0,
                high=float(ordered[above - 1]) if above <= count else math.inf,
                confidence=confidence,
                count=count,
                independent=independent,
            )
        )
    return result


def share(hits: npt.NDArray[np.bool_], *, confidence: float = CONFIDENCE) -> Figure:
    """The share of requests of a kind, 0 to 1.

    Args:
        hits: for each request, in order of time, whether it is of that kind; one or more.
        confidence: between 0 and 1.

    Raises:
        ValueError: no requests.
    """
    if not len(hits):
        raise ValueError("no requests: there is nothing to take a share of")
    estimate, independent = float(hits.mean()), independent_values(hits)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (estimate + z * z / (2 * independent)) / (1 + z * z / independent)
    half = z * math.sqrt(estimate * (1 - estimate) / independent + (z / (2 * independent)) ** 2)
    half /= 1 + z * z / independent
    return Figure(
        estimate=estimate,
        low=min(estimate, max(0.0, middle - half)),
        high=max(estimate, min(1.0, middle + half)),
        confidence=confidence,
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
    estimate = a.estimate - b.estimate
    return (
        estimate,
        estimate - math.hypot(a.estimate - a.low, b.high - b.estimate),
        estimate + math.hypot(a.high - a.estimate, b.estimate - b.low),
    )


def ratio(a: Ranged, b: Ranged) -> tuple[float, float, float]:
    """``a / b`` with its interval, by the difference of logarithms; 0 to infinity unless both are above 0."""
    if a.estimate <= 0 or b.estimate <= 0:
        return (math.nan if a.estimate <= 0 and b.estimate <= 0 else _over(a.estimate, b.estimate)), 0.0, math.inf
    estimate, low, high = difference(_Logarithm(a), _Logarithm(b))
    return math.exp(estimate), math.exp(low), math.exp(high)


class _Logarithm:
    def __init__(self, of: Ranged) -> None:
        self.estimate, self.low, self.high = (_log(value) for value in (of.estimate, of.low, of.high))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.inf


def _ranks(trials: int, share: float, confidence: float) -> tuple[int, int]:
    """Ranks of the order statistics that enclose the quantile; 0 and ``trials + 1`` stand for beyond the extremes."""
    miss = (1 - confidence) / 2
    mean = trials * share
    # `below` values under the quantile are too few, `above` too many.
    low, high = -1, math.floor(mean)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(middle, trials, share) <= miss else (low, middle)
    below = low
    low, high = math.ceil(mean), trials + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tail(middle, trials, share) <= miss else (middle, high)
    return below + 1, high
