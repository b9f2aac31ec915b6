"""Figures for a sentence: two digits, or as many as their interval bears out. Pure."""

from __future__ import annotations

import math

_DIGITS = 2


def in_two_digits(value: float) -> str:
    """E.g. ``1.6``, ``0.053``, ``42`` or ``1,200``."""
    return _to_decimals(value, _decimals(value))


def with_interval(value: float, low: float, high: float, *, unit: str = "") -> str:
    """E.g. ``1.6 ms [1.0, 2.2]``: two digits of the estimate, or of half the interval if that is wider."""
    estimate, ends = _rounded(value, low, high)
    return " ".join(filter(None, (estimate, unit, ends)))


def difference(value: float, low: float, high: float, *, unit: str = "", ends: bool = True) -> str:
    """E.g. ``+1.6 ms [1.0, 2.2]``, or ``≈ 0 ms [−0.2, 0.3]`` if the interval holds 0; without ``ends`` no interval."""
    estimate, interval = _rounded(value, low, high)
    if low <= 0 <= high:
        estimate = "≈ 0"
    elif value > 0:
        estimate = f"+{estimate}"
    return " ".join(filter(None, (estimate, unit, interval if ends else "")))


def _rounded(value: float, low: float, high: float) -> tuple[str, str]:
    half = (high - low) / 2
    decimals = _decimals(max(abs(value), half) if math.isfinite(half) else value)
    estimate, *ends = (_to_decimals(each, decimals) for each in (value, low, high))
    return estimate, f"[{', '.join(ends)}]"


def _decimals(value: float) -> int:
    """The place of a value's second digit behind the point; negative before it."""
    if not value or not math.isfinite(value):
        return 0
    return _DIGITS - 1 - math.floor(math.log10(abs(float(f"{abs(value):.{_DIGITS - 1}e}"))))


def _to_decimals(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    rounded = round(value, decimals)
    return f"{'−' if rounded < 0 else ''}{abs(rounded):,.{max(decimals, 0)}f}"
