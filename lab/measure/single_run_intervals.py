"""Figures of one run by itself, with intervals: what it may as well have been, had the same minutes come once more.

Requests of one run are not independent: one that waits makes the next wait. Taken as independent, n requests would
seem to tell more than they do. So n is divided by the *design effect*: how many times more a share scatters between 30
batches of the run, each of consecutive requests, than shares of independent requests would (batch means; Law,
"Simulation Modeling and Analysis", chapter 9; Kish, "Survey Sampling", 1965). With what is left, a quantile gets the
exact interval of order statistics (Woodruff, JASA 47, 1952), a share that of Wilson (JASA 22, 1927).

What such an interval cannot know: moods of the machine that last longer than a thirtieth of the run, or that another
run would have met. Two runs one after another share no rounds; a bench, whose arms take turns, tells more.
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

# The scatter is itself known from 30 batches only: Student's quantile with 29 degrees of freedom over the normal one.
_T_OVER_Z = 2.045 / 1.960
_ROUNDING = 1e-9  # as in lab.measure.latency


class Ranged(Protocol):
    """Whatever has an estimate and an interval."""

    @property
    def estimate(self) -> float:
        """The most likely value."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end; infinite if nothing is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An estimate and what it may as well be.

    Attributes:
        estimate: in the unit of the values.
        low: lower end of the interval.
        high: upper end; infinite if there are too few values for one.
        confidence: share of such intervals that hold the true value, e.g. 0.95.
        count: number of values.
        independent: as many independent values would tell as much.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    count: int
    independent: float


def quantile(values: npt.NDArray[np.float64], share: float, *, confidence: float = CONFIDENCE) -> Figure:
    """A quantile of values that came one after another, e.g. the p99 with a share of 0.99; nearest rank.

    Args:
        values: in the order of time, one or more.
        share: 0 to 1, both left out.
        confidence: between 0 and 1.

    Raises:
        ValueError: no values.
    """
    return quantiles(values, (share,), confidence=confidence)[0]


def quantiles(
    values: npt.NDArray[np.float64], shares: tuple[float, ...], *, confidence: float = CONFIDENCE
) -> list[Figure]:
    """Several of them; the values are sorted once."""
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
        hits: in the order of time, one or more: whether each is of that kind.
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
    """As many independent draws as tell as much of the share as these, which came one after another; never more."""
    count, part = len(hits), float(hits.mean())
    batches = min(BATCHES, count)
    if batches < 2 or part in (0.0, 1.0):  # noqa: PLR2004 (of one batch there is no scatter)
        return float(count)
    edges = np.linspace(0, count, batches + 1).astype(np.int64)
    sizes = np.diff(edges)
    means = np.add.reduceat(hits.astype(np.int64), edges[:-1]) / sizes
    scatter = float((sizes * (means - part) ** 2).sum()) / (batches - 1)
    return count / max(1.0, scatter * _T_OVER_Z**2 / (part * (1 - part)))


def difference(a: Ranged, b: Ranged) -> tuple[float, float, float]:
    """``a - b`` with the ends of its interval, for independent a and b.

    Each side's distance to its end counts as its scatter in that direction (MOVER; Zou and Donner, Statistics in
    Medicine 27, 2008), so that lopsided intervals stay lopsided.
    """
    estimate = a.estimate - b.estimate
    return (
        estimate,
        estimate - math.hypot(a.estimate - a.low, b.high - b.estimate),
        estimate + math.hypot(a.high - a.estimate, b.estimate - b.low),
    )


def ratio(a: Ranged, b: Ranged) -> tuple[float, float, float]:
    """``a / b`` likewise, by the difference of logarithms; where b is not above 0, nothing is known: 0 to infinity."""
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
    """Between which order statistics of so many independent values the quantile lies; 0 and trials + 1 if beyond."""
    miss = (1 - confidence) / 2
    mean = trials * share
    # As many as `below` values under the quantile are too few, as many as `above` too many.
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
