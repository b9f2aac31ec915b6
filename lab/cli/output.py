"""Prints results: as text and tables for people, or as one JSON document."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from lab.measure.findings import ResultTable

# A file or a pipe has no window whose width would matter: tables are as wide as their cells.
_WIDE = 10_000

_GAP = 2
_WORD = re.compile(r"\(?[\w-]{1,20}[,.;:)]?")
"""Names, verdicts and words of prose, which are never broken; paths and longer ones may be."""
_LEAST_TEXT = 12


class _Console(Console):
    """Wraps text at spaces, but leaves text to the terminal that has a word, such as a path, longer than a line."""

    def print(self, *objects: Any, **options: Any) -> None:
        words = [word for each in objects if isinstance(each, str) for word in each.split()]
        long = any(cell_len(word) > self.width for word in words)
        super().print(*objects, **{"soft_wrap": long, "crop": False, **options})


console = _Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
progress_console = _Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDE)


def _without_end(line: Sequence[Segment]) -> Text:
    """A line of a table without the spaces that fill its last column."""
    text = Text.assemble(*((part, style or "") for part, style, _ in line), no_wrap=True, overflow="ignore")
    text.rstrip()
    return text


def print_json(document: Any) -> None:
    """Prints one document on standard output."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def say(message: str) -> None:
    """Prints a line of progress on standard error, where it does not mix with results."""
    progress_console.print(f"[dim]·[/dim] {message}")


@dataclass(frozen=True)
class Table:
    """A plain table that fits the terminal and never cuts a cell; in a pipe it is as wide as its cells.

    In a narrow window, headings and the columns of ``folds`` take several lines. If that is not enough, the columns of
    ``optional`` are left out, the last first, and named below. If that is not enough either, the table continues below
    itself, with the first columns again that tell its rows apart. A cell that is wider than the whole window runs over
    its edge.

    Attributes:
        headings: of the columns; a table without any heading shows no line for them.
        rows: cells; strings are shown literally.
        right: columns that are right-aligned, as numbers are.
        folds: columns of text, whose cells may take several lines.
        optional: columns that a narrow window may leave out, most important first.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Text]]
    right: Collection[str] = ()
    folds: Collection[str] = ()
    optional: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.headings)))
        left_out = []
        for name in reversed(self.optional):
            if self._least_width(shown) > options.max_width:
                shown.remove(self.headings.index(name))
                left_out.append(name)
        for number, columns in enumerate(self._parts(shown, options.max_width)):
            if number:
                yield ""
            widths = self._widths(columns, options.max_width)
            needed = _together(widths)
            part = console.render(self._part(columns, widths), options.update_width(max(needed, options.max_width)))
            yield from map(_without_end, Segment.split_lines(part))
        if left_out:
            yield Text(f"not shown in {options.max_width} columns: {', '.join(reversed(left_out))}", style="dim")

    def _part(self, columns: Sequence[int], widths: Sequence[int]) -> RichTable:
        result = RichTable(box=None, header_style="bold", pad_edge=False, show_header=any(self.headings))
        for column, width in zip(columns, widths, strict=True):
            heading = self.headings[column]
            right = heading in self.right
            result.add_column(Text(heading), justify="right" if right else "left", width=width, overflow="fold")
        for row in self.rows:
            result.add_row(*(row[column] for column in columns))
        return result

    def _parts(self, shown: Sequence[int], width: int) -> list[list[int]]:
        """The columns of each part of the table; all parts begin with the same."""
        keys = self._keys(shown, width)
        parts = [keys]
        for column in shown[len(keys) :]:
            if len(parts[-1]) > len(keys) and self._least_width([*parts[-1], column]) > width:
                parts.append(keys)
            parts[-1] = [*parts[-1], column]
        return parts

    def _keys(self, shown: Sequence[int], width: int) -> list[int]:
        """The first columns of text that tell the rows apart; the first one if there are none with room beside them."""
        keys: list[int] = []
        for column in shown:
            keys.append(column)
            if self.headings[column] in self.right:
                break
            if len({tuple(row[key].plain for key in keys) for row in self.rows}) == len(self.rows):
                others = shown[len(keys) :]
                return keys if all(self._least_width([*keys, other]) <= width for other in others) else keys[:1]
        return keys[:1]

    def _widths(self, columns: Sequence[int], width: int) -> list[int]:
        """The width of each column: the least, and an equal part of the room, or less if that is all it wants."""
        result = {column: self._least[column] for column in columns}
        room = max(0, width - self._least_width(columns))
        wanted = {column: self._natural[column] - self._least[column] for column in columns}
        for served, column in enumerate(sorted(columns, key=wanted.__getitem__)):
            more = min(room // (len(columns) - served), wanted[column])
            result[column] += more
            room -= more
        return list(result.values())

    def _least_width(self, columns: Iterable[int]) -> int:
        return _together([self._least[column] for column in columns])

    @cached_property
    def _natural(self) -> list[int]:
        """The width of each column whose headings and cells take one line each."""
        columns = enumerate(self.headings)
        return [max(cell_len(name), *(row[column].cell_len for row in self.rows), 0) for column, name in columns]

    @cached_property
    def _least(self) -> list[int]:
        """The least width of each column that cuts nothing."""
        result = []
        for column, heading in enumerate(self.headings):
            cells = [row[column] for row in self.rows]
            lengths = [cell_len(word) for word in heading.split()]
            if heading in self.folds:
                lengths += [cell_len(word) for cell in cells for word in cell.plain.split() if _WORD.fullmatch(word)]
                lengths.append(min(_LEAST_TEXT, self._natural[column]))
            else:
                lengths += [cell.cell_len for cell in cells]
            result.append(max(lengths, default=0))
        return result


def _together(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] = (),
    folds: Collection[str] = (),
    optional: Sequence[str] = (),
) -> Table:
    """A table of any cells; see :class:`Table`."""
    cells = [[cell if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows]
    return Table(headings, cells, right, folds, optional)


def result_table(result: ResultTable) -> Table:
    """A bench's table: figures are whole, text may fold."""
    folds = [name for name in result.columns if name not in result.numbers]
    return table(result.columns, result.written(), right=result.numbers, folds=folds)


@contextmanager
def silenced() -> Iterator[None]:
    """Prints no tables and no progress while the block runs, as its result is printed as JSON."""
    consoles = (console, progress_console)
    for each in consoles:
        each.file = io.StringIO()
    try:
        yield
    finally:
        for each in consoles:
            each.file = None  # type: ignore[assignment] # the stream at that time


def as_typed(program: str) -> str:
    """A program of this environment, ``lab`` or ``pytest``, as a shell in this folder finds it."""
    beside = Path(sys.executable).with_name(program)
    found = shutil.which(program)
    if not beside.exists() or (found and Path(found).resolve() == beside.resolve()):
        return program
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
