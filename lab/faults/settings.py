"""The options of a fault: their bounds, and the values that a level stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lab.errors import InputError

Value: TypeAlias = float | str

LIGHT, MEDIUM, SEVERE = LEVELS = ("light", "medium", "severe")


@dataclass(frozen=True, slots=True)
class Number:
    """An option that takes a number.

    Attributes:
        name: e.g. ``ms``.
        meaning: in words, with its unit.
        least: lower bound, inclusive.
        most: upper bound, inclusive.
        default: if the level has no value.
    """

    name: str
    meaning: str
    least: float
    most: float
    default: float = 0.0

    def read(self, value: object) -> float:
        """Returns the value, checked.

        Raises:
            InputError: it is not a number, or out of bounds.
        """
        try:
            number = float(value)  # type: ignore[arg-type] # any value may come
        except (TypeError, ValueError):
            number = math.nan
        if not self.least <= number <= self.most:
            raise InputError(
                f"{self.name}: {value!r} is out of range; use {self.least:g} to {self.most:g}: {self.meaning}"
            )
        return number


@dataclass(frozen=True, slots=True)
class Word:
    """An option that takes a word.

    Attributes:
        name: e.g. ``topology``.
        meaning: in words.
        choices: allowed words; any, if empty.
        default: if the level has no value.
    """

    name: str
    meaning: str
    choices: tuple[str, ...] = ()
    default: str = ""

    def read(self, value: object) -> str:
        """Returns the value, checked.

        Raises:
            InputError: it is none of the choices.
        """
        word = str(value)
        if self.choices and word not in self.choices:
            raise InputError(f"{self.name}: {word!r} is not known; use {' or '.join(self.choices)}: {self.meaning}")
        return word


Setting: TypeAlias = Number | Word

SHARE = Number("share", "share of the target's units that are hit, chosen by the seed; at least one unit", 0, 1, 1)


def by_level(**values: tuple[Value, Value, Value]) -> dict[str, dict[str, Value]]:
    """Returns levels, from each setting's values for light, medium and severe."""
    return {level: {name: each[place] for name, each in values.items()} for place, level in enumerate(LEVELS)}


def resolve(
    settings: Sequence[Setting],
    levels: Mapping[str, Mapping[str, Value]],
    *,
    level: str,
    given: Mapping[str, object],
) -> dict[str, Value]:
    """Returns the value of each option: the given one, else the level's, else the default.

    Raises:
        InputError: no such level or setting, or a value is out of bounds.
    """
    if level not in levels:
        raise InputError(f"level: {level!r} is not known; use {', '.join(levels)}")
    known = {each.name: each for each in settings}
    for name in given:
        if name not in known:
            raise InputError(f"{name}: is not a setting of this fault; there are {', '.join(known)}")
    return {name: each.read({**levels[level], **given}.get(name, each.default)) for name, each in known.items()}


def number(settings: Mapping[str, Any], name: str) -> float:
    """Returns the value of a :class:`Number`."""
    return float(settings[name])
