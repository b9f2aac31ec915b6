"""The spool: one JSON array a line, in field order, appended while the run goes on.

A driver that is killed loses what was in flight and what it held since the last flush, nothing else. A line is an array
and not an object because the names would be most of the file. Several processes may append to one spool: each writes
whole records, and their writes do not mix.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import nan
from typing import TYPE_CHECKING, Self

import orjson

from lab.errors import RunError
from lab.history.record import DEFAULTS, FIELD_TYPES, FIELDS, Record, record_of, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

FLUSH_RECORDS = 64
"""So many records are written at once: about 20 KB, a write of some ten microseconds."""

_OLDEST = len(FIELDS) - len(DEFAULTS)  # values that a record had before there were the younger fields


class SpoolWriter:
    """Appends records to a spool, with one write(2) a flush: those of several processes do not mix on a local disk.

    Whoever owns it calls :meth:`flush` now and then, so that slow traffic reaches the file too.

    Args:
        path: the file.
        new: makes it; of several processes that share a spool one does, the others join it afterwards.

    Raises:
        RunError: a new one exists already, one to join does not, or the file cannot be opened; a spool is evidence and
            is not written over.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        how = os.O_CREAT | os.O_EXCL if new else 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | how, 0o644)
        except FileExistsError as error:
            raise RunError(f"{path}: holds the records of another run; name a file that does not exist") from error
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error
        self._lines: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Takes one record; writes when enough of them have come together.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._lines.append(_line(record))
        if len(self._lines) >= FLUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was taken; after this a kill of the process loses none of it.

        Raises:
            OSError: the disk is full, or the like.
        """
        if self._lines:
            lines, self._lines = self._lines, []
            left = b"".join(lines)
            while left:  # a second time only if the disk becomes full in the middle, and then it says so
                left = left[os.write(self._descriptor, left) :]

    def close(self) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1  # whoever writes on must not reach another file that gets its number


def _line(record: Record) -> bytes:
    values = values_of(record)
    try:
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # A peer's error message may hold what is no valid Unicode; the record matters more than the odd letter.
        clean = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in values]
        return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE)


def read_spool(path: Path) -> list[Record]:
    """All records of a spool, in the order in which they were done.

    A record that was torn by a kill is left out, at the end or where another process went on writing.

    Raises:
        RunError: there is no such file, or another line is bad; names file and line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; is this the folder of a run?") from error
    *whole, last = content.split(b"\n")
    records: list[Record] = []
    for number, line in enumerate(whole, start=1):
        records.extend(_records(line, f"{path}:{number}"))
    if last:
        with suppress(RunError):  # the kill came in the middle of this line
            records.extend(_records(last, f"{path}:{len(whole) + 1}"))
    return records


def _records(line: bytes, where: str) -> Sequence[Record]:
    """The record of a line, or those around the place where a writer was killed and another went on."""
    try:
        return (_record(line, where),)
    except RunError:
        start = line.find(b"[", 1)
        while start > 0:
            with suppress(RunError):
                whole = _record(line[start:], where)
                break
            start = line.find(b"[", start + 1)
        else:
            raise
    with suppress(RunError):  # torn just before its newline
        return (_record(line[:start], where), whole)
    return (whole,)


def _record(line: bytes, where: str) -> Record:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RunError(f"{where}: no JSON ({error.msg}); the line was damaged after the run, leave it out") from error
    if isinstance(values, list) and _OLDEST <= len(values) < len(FIELDS):
        values += [DEFAULTS[name] for name in FIELDS[len(values) :]]
    if not isinstance(values, list) or len(values) != len(FIELDS):
        found = f"an array of {len(values)}" if isinstance(values, list) else type(values).__name__
        raise RunError(f"{where}: {found} where a record is an array of {len(FIELDS)} values; was another lab at work?")
    if tuple(map(type, values)) != FIELD_TYPES:
        values = [
            _value(value, expected, f"{where}: {name}")
            for name, expected, value in zip(FIELDS, FIELD_TYPES, values, strict=True)
        ]
    return record_of(tuple(values))


def _value(value: object, expected: type, where: str) -> str | int | float:
    if type(value) is expected and isinstance(value, str | int | float):
        return value
    if expected is float and value is None:
        return nan  # JSON knows no such number; orjson writes null
    if expected is float and type(value) is int:
        return float(value)
    raise RunError(f"{where}: {value!r} is no {expected.__name__}; was another lab at work?")
