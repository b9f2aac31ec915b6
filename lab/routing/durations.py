"""Durations in route tables: ``250ms``, ``2s``. ``validators`` checks their form."""

from __future__ import annotations


def seconds(text: str) -> float:
    """Seconds of a validated duration; raises ValueError if it is not one."""
    if text.endswith("ms"):
        return float(text.removesuffix("ms")) / 1000
    return float(text.removesuffix("s"))
