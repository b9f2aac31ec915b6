"""Findings of a measurement: claims with their bounds, tables, and when and where it ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lab.measure.compare import Interval  # noqa: TC001 (same)

GROUND = ("runtime", "cpus", "memory", "kernel")
"""Fields of the machine's card that every figure names."""


class State(StrEnum):
    """Whether a claim holds."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure with its bounds, and the doubts for which it does not count: a late driver, a control that disagrees."""

    text: str
    figure: Interval
    at_most: float | None = None
    at_least: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """Whether the whole interval keeps the bounds or is beyond one; undecided in between, and if in doubt."""
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        figure = self.figure
        if self.doubts or math.isnan(figure.estimate):
            return State.UNDECIDED
        if least <= figure.low and figure.high <= most:
            return State.HOLDS
        return State.FAILS if figure.high < least or figure.low > most else State.UNDECIDED

    @property
    def rounds_needed(self) -> int | None:
        """Number of rounds that would decide an undecided claim if its estimate stayed; None if no number would.

        An interval narrows with the square root of the number of rounds. What is in doubt is not undecided for its
        interval's width.
        """
        figure = self.figure
        if self.state is not State.UNDECIDED or self.doubts or not figure.rounds:
            return None
        least, most = self.at_least, self.at_most
        inside = [each for each in (least, most) if each is not None and figure.low <= each <= figure.high]
        broken = [
            each
            for each in inside
            if (each == least and figure.estimate < each) or (each == most and figure.estimate > each)
        ]
        # To hold, the interval must leave every bound behind; to fail, the one that the estimate breaks.
        narrower = max(_times_narrower(figure, bound) for bound in broken or inside)
        needed = figure.rounds * narrower**2
        return max(figure.rounds + 1, math.ceil(needed)) if math.isfinite(needed) else None

    @property
    def state_in_words(self) -> str:
        """The state, and what would decide it, e.g. ``undecided; about 210 rounds would decide``."""
        needed = self.rounds_needed
        return f"{self.state}; about {in_two_digits(needed)} rounds would decide" if needed else str(self.state)

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        return {**asdict(self), "state": str(self.state), "holds": self.holds, "rounds_needed": self.rounds_needed}

    @property
    def holds(self) -> bool:
        """Whether the whole interval keeps the bounds and there are no doubts."""
        return self.state is State.HOLDS

    @property
    def bound(self) -> str:
        """The bounds in words, e.g. ``≥ 0.99 and ≤ 1.01``."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " and ".join(f"{sign} {value:g}" for sign, value in bounds if value is not None)


def _times_narrower(figure: Interval, bound: float) -> float:
    """How many times narrower an interval must be to end at a bound that lies in it."""
    end = figure.low if bound < figure.estimate else figure.high
    return abs(end - figure.estimate) / abs(bound - figure.estimate) if bound != figure.estimate else math.inf


@dataclass(frozen=True, slots=True)
class ResultTable:
    """Figures in rows: a float is shown with three decimals, a string unchanged; columns of ``numbers`` align right.

    Raises:
        ValueError: a row's length differs from the columns', or ``numbers`` names no column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | str]]
    numbers: Sequence[str] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} cells under {len(self.columns)} columns")
        if strange := [name for name in self.numbers if name not in self.columns]:
            raise ValueError(f"table {self.title!r} has no column {strange[0]!r}")

    def written(self) -> list[list[str]]:
        """The rows, formatted."""
        return [[cell if isinstance(cell, str) else written(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """When (UTC, ISO 8601), how long (s), in how many rounds and on which machine a bench ran."""

    started: str
    took_s: float
    rounds: int
    machine: Mapping[str, str]

    def __str__(self) -> str:
        ground = [f"{name} {self.machine[name]}" for name in GROUND if name in self.machine]
        started = self.started.replace("T", " ").replace("+00:00", " UTC")
        return f"{started}, {self.rounds} rounds in {self.took_s:g} s; {', '.join(ground)}"


def in_two_digits(value: float) -> str:
    """A rough number, with two significant digits: ``1,300``."""
    return f"{float(f'{value:.2g}'):,.15g}"


def in_its_interval(figure: Interval) -> str:
    """An estimate with its interval, formatted: ``0.376 [0.310, 0.421]``."""
    return f"{written(figure.estimate)} [{written(figure.low)}, {written(figure.high)}]"


def written(value: float) -> str:
    """A formatted figure: three decimals unless whole, none from 1,000 on; ∞ for infinity, – for NaN."""
    if math.isnan(value):
        return "–"
    sign, size = "−" if value < 0 else "", abs(value)
    if math.isinf(value):
        return f"{sign}∞"
    whole = isinstance(value, int) or size >= 1000  # noqa: PLR2004 (where thousands begin)
    return f"{sign}{size:,.0f}" if whole else f"{sign}{size:.3f}"
