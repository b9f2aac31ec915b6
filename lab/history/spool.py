"""The spool: one JSON array a line, in field order, appended during the run.

A driver that is killed loses requests in flight and records since the last flush, nothing else. A line is an array, as
field names would be most of the file. Several processes may append to one spool: each writes whole records, and their
writes do not interleave.
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
"""Records in one write: about 20 KB, some ten microseconds."""

_OLDEST = len(FIELDS) - len(DEFAULTS)  # number of fields without a default


class SpoolWriter:
    """Appends records to a spool, with one write(2) a flush, so that those of several processes do not interleave.

    The owner calls :meth:`flush` periodically, so that slow traffic reaches the file, too.

    Args:
        path: the file.
        new: whether to create it. Of several processes that share a spool, one creates it before the others open it.

    Raises:
        RunError: the file exists though new, is missing, or cannot be opened. A spool is evidence and is never
            overwritten.
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
        """Appends one record; writes once there are enough for one flush.

        Raises:
            OSError: e.g. the disk is full.
        """
        self._lines.append(_line(record))
        if len(self._lines) >= FLUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Writes all appended records; killing the process loses none of them from then on.

        Raises:
            OSError: e.g. the disk is full.
        """
        if self._lines:
            lines, self._lines = self._lines, []
            left = b"".join(lines)
            while left:  # a short write means that the disk is full, and the next one raises
                left = left[os.write(self._descriptor, left) :]

    def close(self) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1  # the number may be reused for another file


def _line(record: Record) -> bytes:
    values = values_of(record)
    try:
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # A peer's error message may contain invalid Unicode, which is replaced rather than losing the record.
        clean = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in values]
        return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE)


def read_spool(path: Path) -> list[Record]:
    """Returns all records of a spool, in order of completion.

    A record that is incomplete because its process was killed is left out, at the end or before another process's.

    Raises:
        RunError: the file is missing, or another line is damaged; the message names file and line.
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
        with suppress(RunError):  # the writer was killed within this line
            records.extend(_records(last, f"{path}:{len(whole) + 1}"))
    return records


def _records(line: bytes, where: str) -> Sequence[Record]:
    """Returns the record of a line, or two if one writer was killed and another continued the line."""
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
    with suppress(RunError):  # complete but for its newline
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
        raise RunError(
            f"{where}: {found} where a record is an array of {len(FIELDS)} values; did another version write it?"
        )
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
        return nan  # JSON has no NaN; orjson writes null
    if expected is float and type(value) is int:
        return float(value)
    raise RunError(f"{where}: {value!r} is no {expected.__name__}; did another version write it?")
