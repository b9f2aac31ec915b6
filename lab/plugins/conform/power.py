"""How many requests show that a share is wrong, and how far one may be off by chance."""

from __future__ import annotations

import math

_SIGMAS = 4.5  # 1 of 150,000 runs exceeds it by chance
_POWER_SIGMAS = 2.5  # 99 of 100 runs with a shift exceed that
_SHIFT = 0.1


def requests_for(share: float) -> int:
    """The requests by which, in 99 % of runs, ten percentage points off a share are more than :func:`by_chance`."""
    deviations = [math.sqrt(each * (1 - each)) for each in (share - _SHIFT, share + _SHIFT) if 0 < each < 1]
    off = _SIGMAS * math.sqrt(share * (1 - share)) + _POWER_SIGMAS * max(deviations)
    return math.ceil((off / _SHIFT) ** 2)


def by_chance(share: float, requests: int) -> float:
    """How far the share of some requests may be off its weight's by chance, 0 to 1."""
    return _SIGMAS * math.sqrt(share * (1 - share) / requests)
