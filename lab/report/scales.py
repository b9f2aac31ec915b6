"""Axes of charts: their range, the position of a value, and their ticks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_MOST_TICKS = 8


def nines_of(percentile: float) -> float:
    """The number of nines of a percentile: 1 for 90, 2 for 99; the usual x axis of HDR histograms."""
    return -math.log10(1 - percentile / 100)


_BENDS: Mapping[str, Callable[[float], float]] = {"linear": float, "logarithmic": math.log10, "percentiles": nines_of}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis.

    Attributes:
        title: the quantity and its unit.
        low: value at its start.
        high: value at its end.
        ticks: values and their labels, in order.
        kind: ``linear``, ``logarithmic`` or ``percentiles``.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    kind: str = "linear"

    def place(self, value: float) -> float:
        """The position of a value: 0 at the start of the axis, 1 at its end."""
        bend = _BENDS[self.kind]
        low, high = bend(self.low), bend(self.high)
        return (bend(value) - low) / (high - low)

    def bent(self, value: float) -> float:
        """A value as charts store it: percentiles as nines."""
        return nines_of(value) if self.kind == "percentiles" else value

    def channel(self, field: str, *, headroom: float = 0.0) -> dict[str, Any]:
        """This axis as an encoding channel of Vega-Lite.

        Args:
            field: of the data, with values of :meth:`bent`.
            headroom: room beyond the axis's end, as a share of its length, without ticks.
        """
        low, high = _BENDS[self.kind](self.low), _BENDS[self.kind](self.high)
        end = high + (high - low) * headroom
        values = [self.bent(value) for value, _ in self.ticks]
        texts = [text for _, text in self.ticks]
        return {
            "field": field,
            "type": "quantitative",
            "title": f"{self.title} (log scale)" if self.kind == "logarithmic" else self.title,
            "scale": {"nice": False}
            | (
                {"type": "log", "domain": [self.low, 10**end]}
                if self.kind == "logarithmic"
                else {"type": "linear", "domain": [low, end], "zero": False}
            ),
            "axis": {
                "values": values,
                "labelExpr": f"{json.dumps(texts)}[indexof({json.dumps(values)}, datum.value)]",
            },
        }

    def clamp(self, value: float) -> float:
        """The nearest value on the axis; takes infinite ones."""
        return min(max(value, self.low), self.high)


def linear(title: str, high: float, *, low: float = 0.0, to_tick: bool = True) -> Scale:
    """A linear axis from ``low`` to ``high``, extended to the next ticks unless ``to_tick`` is false.

    It always includes 0, so that small differences do not look large.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if span / (step * factor) <= _MOST_TICKS)
    if to_tick or low == high:
        low, high = math.floor(low / step) * step, math.ceil((high or low + span) / step) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(
        title=title, low=low, high=high, ticks=tuple(_tick(number * step) for number in range(first, last + 1))
    )


def logarithmic(title: str, low: float, high: float) -> Scale:
    """A logarithmic axis from ``low`` to ``high``, both above 0, extended to the next 1, 2 or 5 of a decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(value for value in values if value <= low * (1 + 1e-9))
    last = min(value for value in values if value >= high * (1 - 1e-9) and value > first)
    ticks = [value for value in values if first <= value <= last]
    if len(ticks) > _MOST_TICKS:
        ticks = [value for value in ticks if math.log10(value).is_integer()]
    return Scale(title=title, low=first, high=last, ticks=tuple(map(_tick, ticks)), kind="logarithmic")


def percentiles(title: str, high: float) -> Scale:
    """An axis of percentiles from 0 to ``high``, below 100, on which every nine has the same width."""
    nines = (100 - 10.0 ** (2 - number) for number in range(1, 10))
    ticks = [(value, f"p{value:.10g}") for value in (0.0, 50.0, *nines) if value <= high]
    return Scale(title=title, low=0.0, high=high, ticks=tuple(ticks), kind="percentiles")


def payloads(values_bytes: Iterable[float], title: str = "payload") -> Scale:
    """A logarithmic axis of sizes above 0, with ticks at these sizes."""
    values = sorted(set(values_bytes))
    ticks = tuple((value, size(value)) for value in values)
    low, high = (values[0], values[-1]) if len(values) > 1 else (values[0] / 2, values[0] * 2)
    return Scale(title=title, low=low, high=high, ticks=ticks, kind="logarithmic")


def size(size_bytes: float) -> str:
    """E.g. ``400 B``, ``27 KB`` or ``4.1 MB``, of 1,000 each."""
    for unit, factor in (("MB", 1e6), ("KB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.3g} B"


def _tick(value: float) -> tuple[float, str]:
    sign = "−" if value < 0 else ""
    return value, f"{sign}{abs(value):,.10g}"
