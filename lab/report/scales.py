"""Axes of charts: which values they span, where a value stands on them, and what is written beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_TICKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis.

    Attributes:
        title: what it measures, with its unit.
        low: value at its beginning.
        high: value at its end.
        ticks: values with what is written beside them, in order.
        bend: monotonic; makes the axis logarithmic, say.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    bend: Callable[[float], float] = float

    def place(self, value: float) -> float:
        """Where a value stands: 0 at the beginning of the axis, 1 at its end."""
        low, high = self.bend(self.low), self.bend(self.high)
        return (self.bend(value) - low) / (high - low)


def linear(title: str, high: float, *, to_tick: bool = True) -> Scale:
    """From 0 to ``high``, or to the first tick that is not below it."""
    high = high or 1.0
    step = 10.0 ** math.floor(math.log10(high))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if high / (step * factor) <= _MOST_TICKS)
    if to_tick:
        high = math.ceil(high / step) * step
    ticks = tuple(_tick(number * step) for number in range(math.floor(high / step + 1e-9) + 1))
    return Scale(title=title, low=0.0, high=high, ticks=ticks)


def logarithmic(title: str, low: float, high: float) -> Scale:
    """From the last 1, 2 or 5 of its decade that is not above ``low`` to the first that is not below ``high``.

    Both are above 0.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(value for value in values if value <= low * (1 + 1e-9))
    last = min(value for value in values if value >= high * (1 - 1e-9) and value > first)
    ticks = [value for value in values if first <= value <= last]
    if len(ticks) > _MOST_TICKS:
        ticks = [value for value in ticks if math.log10(value).is_integer()]
    return Scale(title=title, low=first, high=last, ticks=tuple(map(_tick, ticks)), bend=math.log10)


def percentiles(title: str, high: float) -> Scale:
    """Percentiles from 0 to ``high``, below 100, where each further nine takes as much room as the one before."""
    nines = (100 - 10.0 ** (2 - number) for number in range(1, 10))
    ticks = [(value, f"p{value:.10g}") for value in (0.0, 50.0, *nines) if value <= high]
    return Scale(title=title, low=0.0, high=high, ticks=tuple(ticks), bend=nines_of)


def nines_of(percentile: float) -> float:
    """How many nines a percentile has: 1 for 90, 2 for 99; what HDR histograms are usually drawn over."""
    return -math.log10(1 - percentile / 100)


def _tick(value: float) -> tuple[float, str]:
    return value, f"{value:,.10g}"
