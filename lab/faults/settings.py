"""The numbers and words of a fault: what can be set, within which bounds, and what the levels mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value: TypeAlias = float | str

LIGHT, MEDIUM, SEVERE = LEVELS = ("light", "medium", "severe")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that can be set.

    Attributes:
        name: e.g. ``ms``.
        what: what it means, with its unit.
        least: bound, inclusive; ``most`` likewise.
        default: where the level says nothing.
    """

    name: str
    what: str
    least: float
    most: float
    default: float = 0.0

    def read(self, value: object) -> float:
        """The value, checked.

        Raises:
            InputError: it is no number, or out of bounds.
        """
        try:
            number = float(value)  # type: ignore[arg-type] # whatever it is
        except (TypeError, ValueError):
            number = math.nan
        if not self.least <= number <= self.most:
            raise InputError(f"{self.name}: {value!r} will not do; write {self.least:g} to {self.most:g}: {self.what}")
        return number


@dataclass(frozen=True, slots=True)
class Word:
    """A word that can be set.

    Attributes:
        name: e.g. ``topology``.
        what: what it means.
        choices: whichever, if empty.
        default: where the level says nothing.
    """

    name: str
    what: str
    choices: tuple[str, ...] = ()
    default: str = ""

    def read(self, value: object) -> str:
        """The value, checked.

        Raises:
            InputError: it is none of the choices.
        """
        word = str(value)
        if self.choices and word not in self.choices:
            raise InputError(f"{self.name}: {word!r} will not do; write {' or '.join(self.choices)}: {self.what}")
        return word


Setting: TypeAlias = Number | Word

SHARE = Number("share", "share of the target's units that are hit, chosen by the seed; always one at least", 0, 1, 1)


def resolve(
    settings: Sequence[Setting],
    levels: Mapping[str, Mapping[str, Value]],
    *,
    level: str,
    given: Mapping[str, object],
) -> dict[str, Value]:
    """What holds: what was given, else what the level says, else the defaults.

    Raises:
        InputError: no such level or setting, or a value is out of bounds.
    """
    if level not in levels:
        raise InputError(f"level: {level!r} is not known; write {', '.join(levels)}")
    known = {each.name: each for each in settings}
    for name in given:
        if name not in known:
            raise InputError(f"{name}: is no setting of this fault; there are {', '.join(known)}")
    return {name: each.read({**levels[level], **given}.get(name, each.default)) for name, each in known.items()}


def number(settings: Mapping[str, Any], name: str) -> float:
    """A setting that is a number."""
    return float(settings[name])
