"""Reads traces of recorded arrivals: a CSV file with a header and one request per line.

The columns are those of the Azure Public Dataset's LLM inference traces: ``TIMESTAMP``, never decreasing (``2023-11-16
18:17:03.9799600``: up to nine fractional digits, UTC unless it has an offset), and ``ContextTokens``. Other columns,
such as ``GeneratedTokens``, are ignored.

A token becomes one float32 feature, so a context of n tokens becomes a payload of 4 n bytes: the trace contributes the
distribution of sizes, from hundreds of bytes to tens of kilobytes, not text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from lab.errors import TraceError
from lab.reading import open_regular

TIME_COLUMN = "TIMESTAMP"
TOKENS_COLUMN = "ContextTokens"

BYTES_PER_TOKEN = 4
MAX_PAYLOAD_BYTES = 48 * 1024 * 1024  # below the 64 MiB message limit of the lab's channels

_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_TOKENS = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_SHOWN = 40
_MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace.

    Attributes:
        time_ns: when it arrived, Unix nanoseconds.
        payload_bytes: size of its request without the envelope.
    """

    time_ns: int
    payload_bytes: int


def read_trace(path: Path, *, limit: int | None = None) -> Iterator[TraceRow]:
    """The requests of a trace in order, at most ``limit``; the rest of the file is not read.

    Raises:
        TraceError: one line that names file, line, field and remedy.
    """
    try:
        # Invalid UTF-8 is replaced, so that the error names the line that holds it.
        with TextIOWrapper(open_regular(path), encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from _rows(_numbered(file, path), path, limit)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}; name a CSV file") from error


def _rows(lines: Iterator[tuple[int, list[str]]], path: Path, limit: int | None) -> Iterator[TraceRow]:
    number, header = next(lines, (1, []))
    if not header:
        raise TraceError(f"{path}: is empty; its first line names the columns {TIME_COLUMN},{TOKENS_COLUMN}")
    names = [name.strip() for name in header]
    for column in (TIME_COLUMN, TOKENS_COLUMN):
        if column not in names:
            found = _shown(",".join(names))
            raise TraceError(f"{path}:{number}: {column}: no such column in {found}; name it in the first line")
    time_place, tokens_place = names.index(TIME_COLUMN), names.index(TOKENS_COLUMN)

    count, latest = 0, None
    for number, cells in lines:
        where = f"{path}:{number}"
        if len(cells) != len(names):
            raise TraceError(f"{where}: {len(cells)} cells under {len(names)} columns; write one cell a column")
        row = TraceRow(_time_ns(cells[time_place], where), _payload_bytes(cells[tokens_place], where))
        if latest is not None and row.time_ns < latest:
            raise TraceError(
                f"{where}: {TIME_COLUMN}: {_shown(cells[time_place])} is before the line above; sort the file by time"
            )
        latest = row.time_ns
        yield row
        count += 1
        if count == limit:
            return
    if not count:
        raise TraceError(f"{path}: has columns but no requests; write one line a request")


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Non-empty lines with their 1-based numbers."""
    reader = csv.reader(_lines(file, path))
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise TraceError(f"{path}:{reader.line_num}: is not CSV ({error}); separate cells with commas") from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Lines of bounded length: a file without line ends would be one of gigabytes."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise TraceError(f"{path}:{number}: has more than {_MAX_LINE:,} characters; write one request a line")
        yield line


def _time_ns(cell: str, where: str) -> int:
    match = _TIME.fullmatch(cell.strip())
    if match is None:
        raise TraceError(f"{where}: {TIME_COLUMN}: {_shown(cell)} is not a time; write 2023-11-16 18:17:03.9799600")
    seconds, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(seconds + (zone or "+00:00"))
    except ValueError as error:
        raise TraceError(f"{where}: {TIME_COLUMN}: {_shown(cell)} is in no calendar ({error}); write a date") from error
    since = moment - _EPOCH
    # As integers: a float cannot represent current Unix time in nanoseconds.
    return (since.days * 86_400 + since.seconds) * _NS + int((fraction or "").ljust(9, "0"))


def _payload_bytes(cell: str, where: str) -> int:
    if _TOKENS.fullmatch(cell.strip()) is None:
        raise TraceError(f"{where}: {TOKENS_COLUMN}: {_shown(cell)} is not a whole number; write how many tokens")
    tokens = int(cell.strip())
    if tokens < 0:
        raise TraceError(f"{where}: {TOKENS_COLUMN}: {tokens} is negative; write how many tokens, 0 or more")
    if tokens * BYTES_PER_TOKEN > MAX_PAYLOAD_BYTES:
        most = MAX_PAYLOAD_BYTES // BYTES_PER_TOKEN
        raise TraceError(f"{where}: {TOKENS_COLUMN}: {tokens} is too large; a request holds {most} at most")
    return tokens * BYTES_PER_TOKEN


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
