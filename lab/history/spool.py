"""The spool: one JSON array a line, in field order, appended during the run, with a digest chain.

The last element of a line is ``<writer>:<digest>``. The digest is of the writer's previous one and the line's values:
a record that is changed, removed or put in afterwards breaks the chain.

A driver that is killed loses requests in flight and records since the last flush, nothing else. A line is an array, as
field names would be most of the file. Several processes may append to one spool: each writes whole records, and their
writes do not interleave.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from math import nan
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from lab.errors import RunError
from lab.history.record import DEFAULTS, FIELD_TYPES, FIELDS, Record, record_of
from lab.reading import read_bytes

FLUSH_RECORDS = 64
"""Records in one write: about 20 KB, some ten microseconds."""

_OLDEST = len(FIELDS) - len(DEFAULTS)  # number of fields without a default
_DIGEST_HEX = 32
_TAIL_BYTES = 1 << 20
_MAX_BYTES = 16 << 30  # a record takes 400 bytes, and a run has 20 million at most
_LINK = re.compile(rb',"([0-9a-f]{8}):([0-9a-f]{32})"\]$')


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
        self._writer = secrets.token_hex(4).encode()
        self._digest = self._writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, values: Sequence[str | int | float]) -> None:
        """Appends one record, by its values in field order; writes once there are enough for one flush.

        Raises:
            OSError: e.g. the disk is full.
        """
        line = _line(values)
        self._digest = _chained(self._digest, line)
        self._lines.append(b'%b,"%b:%b"]\n' % (line[:-1], self._writer, self._digest))
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


def _line(values: Sequence[str | int | float]) -> bytes:
    try:
        return orjson.dumps(values)
    except TypeError:
        # A peer's error message may contain invalid Unicode, which is replaced rather than losing the record.
        clean = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in values]
        return orjson.dumps(clean)


def _chained(digest: bytes, line: bytes) -> bytes:
    return sha256(digest + line).hexdigest()[:_DIGEST_HEX].encode()


def read_spool(path: Path) -> list[Record]:
    """Returns all records of a spool, in order of completion.

    A record that is incomplete because its process was killed is left out, at the end or before another process's.

    Raises:
        RunError: the file is missing, another line is damaged, or the chain of digests is broken; the message names
            file and line.
    """
    try:
        content = read_bytes(path, _MAX_BYTES)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; is this the folder of a run?") from error
    *whole, last = content.split(b"\n")
    records: list[Record] = []
    chain = _Chain()
    for number, line in enumerate(whole, start=1):
        records.extend(_records(line, f"{path}:{number}", chain))
    if last:
        with suppress(_DamagedError):  # the writer was killed within this line
            records.extend(_records(last, f"{path}:{len(whole) + 1}", chain))
    return records


class SpoolTail:
    """Reads a spool that is still being written, a part at each call.

    The file stays open, so that records are found that were written last before the file was removed.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("rb")
        self._rest, self._lines, self._chain = b"", 0, _Chain()

    def read(self) -> list[Record]:
        """Returns the records that were written whole since the last call.

        Raises:
            RunError: as :func:`read_spool` does.
        """
        *whole, self._rest = (self._rest + self._file.read(_TAIL_BYTES)).split(b"\n")
        records: list[Record] = []
        for line in whole:
            self._lines += 1
            records.extend(_records(line, f"{self._path}:{self._lines}", self._chain))
        return records

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _DamagedError(RunError):
    """A line that is not a record, as when its writer was killed."""


class _Chain:
    """The chains of a spool's writers, as far as they have been read."""

    def __init__(self) -> None:
        self._digests: dict[bytes, bytes] = {}
        self._without = False

    def add(self, line: bytes, link: re.Match[bytes] | None, where: str) -> None:
        """Adds a record's line, whose link must follow from its writer's lines before.

        Raises:
            RunError: it does not, or some lines have a link and others none. Spools of older versions have none.
        """
        if link is None:
            self._without = True
        else:
            digest = _chained(self._digests.get(link[1], link[1]), line[: link.start()] + b"]")
            if digest != link[2]:
                raise RunError(f"{where}: the chain of digests is broken: a record up to here was changed afterwards")
            self._digests[link[1]] = digest
        if self._without and self._digests:
            raise RunError(f"{where}: the chain of digests is broken: a record without a digest was put in")


def _records(line: bytes, where: str, chain: _Chain) -> Sequence[Record]:
    """Returns the record of a line, or two if one writer was killed and another continued the line."""
    try:
        return (_record(line, where, chain),)
    except _DamagedError:
        start = line.find(b"[", 1)
        while start > 0:
            with suppress(_DamagedError):
                whole = _record(line[start:], where, chain)
                break
            start = line.find(b"[", start + 1)
        else:
            raise
    with suppress(_DamagedError):  # complete but for its newline
        return (_record(line[:start], where, chain), whole)
    return (whole,)


def _record(line: bytes, where: str, chain: _Chain) -> Record:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _DamagedError(
            f"{where}: no JSON ({error.msg}); the line was damaged after the run, leave it out"
        ) from error
    link = _LINK.search(line) if isinstance(values, list) else None
    if link is not None:
        del values[-1]
    if isinstance(values, list) and _OLDEST <= len(values) < len(FIELDS):
        values += [DEFAULTS[name] for name in FIELDS[len(values) :]]
    if not isinstance(values, list) or len(values) != len(FIELDS):
        found = f"an array of {len(values)}" if isinstance(values, list) else type(values).__name__
        raise _DamagedError(
            f"{where}: {found} where a record is an array of {len(FIELDS)} values; did another version write it?"
        )
    if tuple(map(type, values)) != FIELD_TYPES:
        values = [
            _value(value, expected, f"{where}: {name}")
            for name, expected, value in zip(FIELDS, FIELD_TYPES, values, strict=True)
        ]
    chain.add(line, link, where)
    return record_of(tuple(values))


def _value(value: object, expected: type, where: str) -> str | int | float:
    if type(value) is expected and isinstance(value, str | int | float):
        return value
    if expected is float and value is None:
        return nan  # JSON has no NaN; orjson writes null
    if expected is float and type(value) is int:
        return float(value)
    raise _DamagedError(f"{where}: {value!r} is not of type {expected.__name__}; did another version write it?")
