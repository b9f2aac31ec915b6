"""Durations as tables write them: ``250ms``, ``2s``. Their form is for ``schema`` to judge."""

from __future__ import annotations


def seconds(text: str) -> float:
    """Seconds of a duration that was validated before; ValueError if it is none."""
    if text.endswith("ms"):
        return float(text.removesuffix("ms")) / 1000
    return float(text.removesuffix("s"))
