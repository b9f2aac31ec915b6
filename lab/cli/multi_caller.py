"""``lab load`` as several callers at the same time."""

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
    """The callers that ``--caller`` lists: one, several with commas, or ``all``.

    Raises:
        InputError: the list is empty.
    """
    names = list(lab.endpoints().callers) if text == ALL else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--caller: {text!r} names no caller; write one, several with commas, or {ALL}")
    return names


def each_with_its_own(options: LoadOptions, callers: Sequence[str]) -> list[LoadOptions]:
    """The same load for each caller; each draws its own arrivals, users and contexts.

    Raises:
        InputError: use cases are given; every caller has its own.
    """
    if options.use_cases:
        raise InputError(
            "--use-case: with several callers, each calls the use cases that it may; leave it out, or name one caller"
        )
    return [replace(options, caller=name, seed=options.seed + number) for number, name in enumerate(callers)]


def in_one_line(show: Callable[[Progress], None]) -> Callable[[Mapping[str, Progress]], None]:
    """Reports the progress of all runs as that of one."""
    return lambda seen: show(combined(list(seen.values())))
