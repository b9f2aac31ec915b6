"""The rounds of ``lab bench since``, and their result: old, new and old again, figure by figure."""

from __future__ import annotations

import math
import time
from collections.abc import (
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import StatisticsError, median
from typing import Any

import grpc
from pydantic import TypeAdapter

from lab.errors import InputError, LabError, UnitError
from lab.plugins.bench.since.checkout import AbsentError, Checkout
from lab.plugins.bench.since.figures import FIGURES, Figure
from lab.plugins.bench.since.revisions import PLACES, Change, Comparison, compare
from lab.reading import read_json

_FAILURES = (LabError, OSError, StatisticsError, grpc.RpcError)


@dataclass(slots=True)
class Result:
    """What was measured.

    Attributes:
        old: commit, as is ``new``; that may be changed.
        rounds: of each figure, one measurement at each of the three places.
        absent: why a figure is not comparable.
        missing: rounds that are missing, and why.
    """

    old: str
    new: str
    machine: Mapping[str, str]
    started: str = ""
    took_s: float = 0.0
    rounds: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def comparison(self, name: str) -> Comparison | None:
        """A figure's comparison; None if there is nothing to compare."""
        figure, rounds = FIGURES.get(name), self.rounds[name]
        if figure is None or not rounds or name in self.absent:
            return None
        return compare(rounds, margin=figure.margin, more_is_better=figure.more_is_better)

    def verdict(self, name: str) -> Change:
        """A figure's verdict."""
        if name in self.absent:
            return Change.NOT_COMPARABLE
        found = self.comparison(name)
        return Change.UNDECIDED if found is None else found.verdict

    def why(self, name: str) -> str:
        """Why a figure is undecided or not comparable; empty if it is decided."""
        found = self.comparison(name)
        return self.absent.get(name) or ("nothing was measured" if found is None else found.why)

    def ratio(self, name: str) -> float:
        """A figure's new / old; NaN if there is nothing to compare."""
        found = self.comparison(name)
        return math.nan if found is None else found.ratio.estimate

    def slower(self, limit: float = 1.0) -> list[str]:
        """The figures that are slower, with the whole interval of their cost at or above a limit."""
        found = {name: self.comparison(name) for name in self.rounds if self.verdict(name) is Change.SLOWER}
        return [name for name, each in found.items() if each and each.cost.low >= limit]

    @property
    def exit_status(self) -> int:
        """1 if a figure is slower, 2 if one is undecided or not comparable, else 0."""
        verdicts = {self.verdict(name) for name in self.rounds}
        if Change.SLOWER in verdicts:
            return 1
        return 2 if verdicts & {Change.UNDECIDED, Change.NOT_COMPARABLE} or not verdicts else 0

    def to_document(self) -> dict[str, Any]:
        """Returns the JSON document; :meth:`read` reads it."""
        return {**asdict(self), "figures": {name: self._figure(name) for name in self.rounds}}

    def _figure(self, name: str) -> dict[str, Any]:
        figure, found = FIGURES[name], self.comparison(name)
        places = zip(*self.rounds[name], strict=True) if self.rounds[name] else [[]] * len(PLACES)
        return {
            "unit": figure.unit,
            "margin": figure.margin,
            "more_is_better": figure.more_is_better,
            **{
                place.replace(" ", "_"): median(each) if each else None
                for place, each in zip(PLACES, places, strict=True)
            },
            **({"ratio": _finite(found.ratio), "control": _finite(found.control)} if found else {}),
            "verdict": str(self.verdict(name)),
            "why": self.why(name),
        }

    @classmethod
    def read(cls, file: Path) -> Result:
        """Reads a document back; figures that are no longer known are left out.

        Raises:
            InputError: it is not such a document, or cannot be read.
        """
        try:
            found = _RESULT.validate_python(read_json(file))
            found.rounds = {name: each for name, each in found.rounds.items() if name in FIGURES}
            found.to_document()
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError:  # no JSON, fields that are missing or wrong, measurements not above 0
            raise InputError(f"{file}: not a comparison of lab bench since") from None
        return found


_RESULT = TypeAdapter(Result)


def _finite(interval: Any) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        name: None if isinstance(value, float) and math.isinf(value) else value
        for name, value in asdict(interval).items()
    }


def measure(
    old: Checkout,
    new: Checkout,
    figures: Sequence[Figure],
    *,
    rounds: int,
    minutes: float,
    machine: Mapping[str, str],
    say: Callable[[str], None],
) -> Result:
    """Measures figures in rounds; begins none that would not end within the minutes, if it takes as long as the last.

    Ctrl-C ends it; what was measured is kept.
    """
    began = time.monotonic()
    result = Result(old.commit, new.commit, machine, datetime.now(UTC).isoformat(timespec="seconds"))
    result.rounds = {each.name: [] for each in figures}
    try:
        for number in range(1, rounds + 1):
            round_began = time.monotonic()
            this = _Round((old, new, old), f"round {number} of {rounds}", say)
            for figure in figures:
                if figure.name not in result.absent:
                    this.measure(figure, result)
            now = time.monotonic()
            next_ends = now + (now - round_began)
            if number < rounds and next_ends > began + 60 * minutes:
                result.missing.append(f"rounds {number + 1} to {rounds}: not within {minutes:g} minutes")
                break
    except KeyboardInterrupt:
        say("interrupted: taking both labs down")
        result.missing.append("interrupted")
    result.took_s = round(time.monotonic() - began, 1)
    return result


@dataclass(slots=True)
class _Round:
    """One round; each visit is made once at a place, whichever figures it has, also one that fails."""

    checkouts: Sequence[Checkout]
    where: str
    say: Callable[[str], None]
    place: str = ""
    _seen: dict[Any, Any] = field(default_factory=dict)

    def measure(self, figure: Figure, result: Result) -> None:
        """Measures a figure at each place; a failure leaves a gap."""
        try:
            values = tuple(self._at(place, each, figure) for place, each in zip(PLACES, self.checkouts, strict=True))
        except KeyError as error:
            result.absent[figure.name] = f"{self.place}: its {figure.visit.__name__} prints no {error}"
        except AbsentError as error:
            result.absent[figure.name] = f"{self.place}: {error}"
        except _FAILURES as error:
            result.missing.append(f"{self.where}, {figure.name}, {self.place}: {error}")
        else:
            result.rounds[figure.name].append(values)

    def _at(self, place: str, checkout: Checkout, figure: Figure) -> float:
        self.place, key = place, (figure.visit, place)
        if key not in self._seen:
            self.say(f"{self.where}: {place}: {figure.visit.__name__.replace('_', ' ')}")
            try:
                self._seen[key] = figure.visit(checkout)
            except (*_FAILURES, KeyError) as error:
                self._seen[key] = error
        if isinstance(self._seen[key], Exception):
            raise self._seen[key]
        value = figure.pick(self._seen[key])
        if not (math.isfinite(value) and value > 0):
            raise UnitError(f"{value:g} {figure.unit} is not a measurement above 0")
        return value
