"""Prints results: as text and tables for people, or as one JSON document."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A file or a pipe has no window whose width would matter.
_WIDE = None if sys.stdout.isatty() else 240

console = Console(highlight=False, soft_wrap=True, width=_WIDE)
progress_console = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Prints one document on standard output."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def say(message: str) -> None:
    """Prints a line of progress on standard error, where it does not mix with results."""
    progress_console.print(f"[dim]·[/dim] {message}")


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    wrapped: Sequence[str] = (),
) -> Table:
    """A plain table; columns in ``right`` are right-aligned, as numbers are; those in ``wrapped`` may wrap."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        result.add_column(heading, justify="right" if heading in right else "left", no_wrap=heading not in wrapped)
    for row in rows:
        result.add_row(*[str(cell) for cell in row])
    return result


def silence(as_json: bool) -> bool:
    """Sends tables and progress nowhere if the result is printed as JSON; the callback of ``--json``."""
    for each in (console, progress_console):
        each.file = io.StringIO() if as_json else None  # type: ignore[assignment] # None: the stream at that time
    return as_json
