"""Limits of the numbers that people and files give to the lab, and the check of a value against them.

Every numeric option of a command and every numeric field of a plan names one of these ranges. A number of thousands of
digits, infinity and NaN are outside all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from lab.errors import InputError

_SHOWN = 40


class Range(NamedTuple):
    """A range of numbers, both ends included."""

    low: float
    high: float

    def __str__(self) -> str:
        """``1 to 64``."""
        return f"{self.low:,} to {self.high:,}"

    def __contains__(self, value: object) -> bool:
        """Whether it is a number in the range; NaN is in none."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


RATE = Range(0.01, 1_000_000)
"""Requests per second."""
SECONDS = Range(0.01, 604_800)
"""A duration, up to a week."""
SEED = Range(-(2**63), 2**63 - 1)
COUNT = Range(0, 1_000_000)
USERS = Range(1, 1_000_000_000)
REVISION = Range(0, 2**31 - 1)
REQUESTS = Range(1, 20_000_000)
"""Requests of one run: all are planned before the first is sent."""
ROUNDS = Range(3, 1_000)
PORT = Range(1, 65_535)
PERCENT = Range(0, 100)
SPEEDUP = Range(0.001, 1_000_000)


def require_whole(field: str, value: object, within: Range) -> None:
    """Raises InputError unless the value is a whole number in a range."""
    if not isinstance(value, int) or value not in within:
        raise InputError(f"{field}: {_shown(value)} is out of range: use {within}, a whole number")


def require_number(field: str, value: object, within: Range) -> None:
    """Raises InputError unless the value is a number in a range."""
    if value not in within:
        raise InputError(f"{field}: {_shown(value)} is out of range: use {within}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits has none
        return "it"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
