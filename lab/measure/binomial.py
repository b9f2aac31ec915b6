"""How unlikely a count is: exact tails of the binomial distribution, also in sigma."""

from __future__ import annotations

from math import exp, inf, lgamma, log, log1p
from statistics import NormalDist

_NORMAL = NormalDist()
_NEGLIGIBLE = 1e-17


def tail(successes: int, trials: int, share: float) -> float:
    """Probability of a count at least as far out as this one, on its side of the mean; ``share`` is that of a success.

    Exact up to rounding; the normal approximation fails where the expected count is small.
    """
    if share <= 0 or share >= 1:
        return 1.0 if successes == trials * share else 0.0
    if successes < trials * share:
        successes, share = trials - successes, 1 - share
    # The terms fall from here on, as the upper tail begins beyond the mean.
    term = exp(
        lgamma(trials + 1)
        - lgamma(successes + 1)
        - lgamma(trials - successes + 1)
        + successes * log(share)
        + (trials - successes) * log1p(-share)
    )
    total = 0.0
    while term > total * _NEGLIGIBLE:
        total += term
        term *= (trials - successes) / (successes + 1) * share / (1 - share)
        successes += 1
    return min(1.0, total)


def sigmas(probability: float) -> float:
    """The one-sided distance in sigma that a probability corresponds to; 0 for one half or more, inf for 0."""
    if probability <= 0:
        return inf
    return 0.0 if probability >= 0.5 else -_NORMAL.inv_cdf(probability)  # noqa: PLR2004 (a half)


def in_words(sigma: float) -> str:
    """The distance in words, e.g. ``1.9 sigma``; ``over 37 sigma`` where the probability underflows."""
    return f"{sigma:.1f} sigma" if sigma < inf else "over 37 sigma"


def least_trials(share: float, sigma: float) -> int:
    """The fewest trials for which the most extreme count is ``sigma`` out; with fewer, any count would pass."""
    if share <= 0 or share >= 1:
        return 1
    return int(log(_NORMAL.cdf(-sigma)) / log1p(-min(share, 1 - share))) + 1
