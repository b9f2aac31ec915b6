"""``lab load`` in the name of several callers at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.load.progress import combined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.lab import Lab
    from lab.load.progress import Progress
    from lab.runs import LoadOptions

ALL = "all"


def named_callers(text: str, lab: Lab) -> list[str]:
    """The callers that ``--caller`` names: one, several with commas, or ``all``.

    Raises:
        InputError: it names nobody.
    """
    names = list(lab.endpoints().callers) if text == ALL else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--caller: {text!r} names nobody; write a caller, several with commas, or {ALL}")
    return names


def each_with_its_own(options: LoadOptions, callers: Sequence[str]) -> list[LoadOptions]:
    """The same load for each caller; each draws arrivals, users and contexts of its own.

    Raises:
        InputError: use cases are named, of which every caller has its own.
    """
    if options.use_cases:
        raise InputError("--use-case: with several callers each asks for what it may; leave it out, or name one caller")
    return [replace(options, caller=name, seed=options.seed + place) for place, name in enumerate(callers)]


def in_one_line(tell: Callable[[Progress], None]) -> Callable[[Mapping[str, Progress]], None]:
    """Tells of all runs as of one."""
    return lambda seen: tell(combined(list(seen.values())))
