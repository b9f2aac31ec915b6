"""Whether a figure is worse in a new revision, from rounds that measure the old one, the new one, the old one again.

Each round gives the ratio of the new measurement to the geometric mean of the two old ones, in which drift that is even
over a round cancels. The estimate is the geometric mean over rounds. Its interval is that of a contrast in a
randomised-block design (Montgomery, "Design and Analysis of Experiments", chapter 4): the logarithms' residuals, after
each round and each of the three places in it has its own mean, give the variance with 2 (n - 1) degrees of freedom, for
Student's t. So two rounds prove a tenfold slowdown and eight one of a tenth, where the sign test of
:mod:`lab.measure.control` needs six rounds to tell anything.

The old revision against itself, in the same rounds, is the A/A control.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from lab.measure.compare import CONFIDENCE, Interval
from lab.measure.control import FALSE_ALARMS

PLACES = ("old", "new", "old again")
"""The order of a round."""

_NEW_TO_OLD, _AGAIN_TO_OLD = (-0.5, 1.0, -0.5), (-1.0, 0.0, 1.0)
_STEPS = 20_001
_Z = 1.96


class Change(StrEnum):
    """What a new revision did to a figure."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A figure of two revisions.

    Attributes:
        ratio: new / old.
        control: old again / old, as an interval of 98 %.
        margin: change that counts as none, e.g. 0.05 for ±5 %.
        more_is_better: whether a ratio above 1 is an improvement.
        scatter: standard deviation of one measurement's logarithm, infinite if there is one round.
    """

    ratio: Interval
    control: Interval
    margin: float
    more_is_better: bool
    scatter: float

    @property
    def cost(self) -> Interval:
        """The ratio so that above 1 is worse: new / old, or old / new if more is better."""
        if not self.more_is_better:
            return self.ratio
        low, high = 1 / self.ratio.high, math.inf if self.ratio.low == 0 else 1 / self.ratio.low
        return Interval(
            estimate=1 / self.ratio.estimate,
            low=low,
            high=high,
            confidence=self.ratio.confidence,
            rounds=self.ratio.rounds,
        )

    @property
    def control_agrees(self) -> bool:
        """Whether the control's interval holds 1, or misses it by less than half the margin."""
        slack = 1 + self.margin / 2
        return self.control.low <= slack and 1 / slack <= self.control.high

    @property
    def verdict(self) -> Change:
        """Same if the whole interval is within the margin, slower or faster if it is beyond, else undecided."""
        cost, most = self.cost, 1 + self.margin
        if not self.control_agrees:
            return Change.UNDECIDED
        if cost.low > most:
            return Change.SLOWER
        if cost.high < 1 / most:
            return Change.FASTER
        return Change.SAME if 1 / most <= cost.low and cost.high <= most else Change.UNDECIDED

    @property
    def why(self) -> str:
        """Why it is undecided, and in how many rounds it would be decided; empty if it is decided."""
        if self.verdict is not Change.UNDECIDED:
            return ""
        if not self.control_agrees:
            low, high = self.control.low, self.control.high
            return f"the A/A control disagrees: old again / old is [{low:.3f}, {high:.3f}], which misses 1"
        if math.isinf(self.scatter):
            return "one round tells nothing: take 2 or more"
        return f"takes about {self.rounds_needed:,} rounds"

    @property
    def rounds_needed(self) -> int:
        """About how many rounds make the interval narrow enough, if estimate and scatter stay; 10,000 at most."""
        away = abs(abs(math.log(self.ratio.estimate)) - math.log1p(self.margin))
        needed = 10_000.0 if away == 0 else 1.5 * (_Z * self.scatter / away) ** 2 + 1
        return min(max(math.ceil(needed), self.ratio.rounds + 1), 10_000)


def compare(rounds: Sequence[Sequence[float]], *, margin: float, more_is_better: bool = False) -> Comparison:
    """Compares one figure, measured in each round at the three :data:`PLACES`.

    Raises:
        ValueError: no rounds, or a measurement that is not above 0.
    """
    values = np.asarray(rounds, np.float64)
    if not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError("ratios need at least one round of measurements above 0")
    logs = np.log(values)
    freedom = 2 * (len(logs) - 1)
    residuals = logs - logs.mean(axis=1, keepdims=True) - logs.mean(axis=0) + logs.mean()
    scatter = math.sqrt(float((residuals**2).sum()) / freedom) if freedom else math.inf

    def contrast(weights: tuple[float, ...], confidence: float) -> Interval:
        estimate = float(logs.mean(axis=0) @ weights)
        error = scatter * math.hypot(*weights) / math.sqrt(len(logs))
        half = student(confidence, freedom) * error if freedom else math.inf
        low, high = (math.exp(end) if end < math.log(1e300) else math.inf for end in (estimate - half, estimate + half))
        return Interval(estimate=math.exp(estimate), low=low, high=high, confidence=confidence, rounds=len(logs))

    return Comparison(
        ratio=contrast(_NEW_TO_OLD, CONFIDENCE),
        control=contrast(_AGAIN_TO_OLD, 1 - FALSE_ALARMS),
        margin=margin,
        more_is_better=more_is_better,
        scatter=scatter,
    )


@cache
def student(confidence: float, freedom: int) -> float:
    """Student's t, within which a share lies: with t = sqrt(freedom) tan(x), the density at x is a power of cos(x)."""
    x = np.linspace(0, math.pi / 2, _STEPS)
    density = np.cos(x) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(confidence, share / share[-1], x)))
