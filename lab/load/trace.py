"""Reads traces of recorded arrivals, one request per line, in two forms; the first line shows which.

- CSV with the columns of the Azure Public Dataset's LLM inference traces: ``TIMESTAMP``, never decreasing (``2023-11-16
  18:17:03.9799600``: up to nine fractional digits, UTC unless it has an offset), ``ContextTokens`` and, if it is there,
  ``GeneratedTokens``. Other columns are ignored.
- Lines of JSON, as Mooncake's traces have them: ``timestamp``, never decreasing, ms; ``input_length`` and
  ``output_length``, tokens; ``hash_ids``, one number for each block of 512 tokens of the prompt, the last of which may
  be shorter. Two requests whose blocks have equal numbers up to some place have equal prompts up to it.

A token becomes one float32 feature, so a context of n tokens becomes a payload of 4 n bytes: the trace contributes the
distribution of sizes, from hundreds of bytes to tens of kilobytes, not text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from lab.errors import TraceError
from lab.reading import open_regular, parse_json

TIME_COLUMN = "TIMESTAMP"
TOKENS_COLUMN = "ContextTokens"
ANSWER_COLUMN = "GeneratedTokens"

BLOCK_TOKENS = 512
"""Tokens of a block that a number in ``hash_ids`` stands for."""

BYTES_PER_TOKEN = 4
MAX_PAYLOAD_BYTES = 48 * 1024 * 1024  # below the 64 MiB message limit of the lab's channels

_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_TOKENS = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_SHOWN = 40
_MOST_TOKENS = MAX_PAYLOAD_BYTES // BYTES_PER_TOKEN
_MAX_MS = 2**52
_MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace.

    Attributes:
        time_ns: when it arrived, nanoseconds: Unix time, or since the trace's beginning.
        payload_bytes: size of its request without the envelope.
        answer_tokens: length of its answer; 0 if the trace does not say.
        blocks: numbers of its prompt's blocks of :data:`BLOCK_TOKENS` tokens; empty if the trace does not say.
    """

    time_ns: int
    payload_bytes: int
    answer_tokens: int = 0
    blocks: tuple[int, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Length of its prompt."""
        return self.payload_bytes // BYTES_PER_TOKEN


def read_trace(path: Path, *, limit: int | None = None) -> Iterator[TraceRow]:
    """The requests of a trace in order, at most ``limit``; the rest of the file is not read.

    Raises:
        TraceError: one line that names file, line, field and remedy.
    """
    try:
        # Invalid UTF-8 is replaced, so that the error names the line that holds it.
        with TextIOWrapper(open_regular(path), encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = _lines(file, path)
            first = next(lines, "")
            rows = _json_rows if first.lstrip().startswith("{") else _csv_rows
            yield from _in_order(rows(chain([first], lines), path), path, limit)
    except OSError as error:
        raise TraceError(
            f"{path}: cannot be read: {error.strerror}; name a file of CSV, or of lines of JSON"
        ) from error


def _in_order(rows: Iterator[tuple[int, TraceRow]], path: Path, limit: int | None) -> Iterator[TraceRow]:
    count, latest = 0, 0
    for number, row in rows:
        if count and row.time_ns < latest:
            raise TraceError(f"{path}:{number}: its time is before that of the line above; sort the file by time")
        latest, count = row.time_ns, count + 1
        yield row
        if count == limit:
            return
    if not count:
        raise TraceError(f"{path}: has columns but no requests; write one line a request")


def _csv_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, TraceRow]]:
    numbered = _numbered(lines, path)
    number, header = next(numbered, (1, []))
    if not header:
        raise TraceError(f"{path}: is empty; its first line names the columns {TIME_COLUMN},{TOKENS_COLUMN}")
    names = [name.strip() for name in header]
    for column in (TIME_COLUMN, TOKENS_COLUMN):
        if column not in names:
            found = _shown(",".join(names))
            raise TraceError(f"{path}:{number}: {column}: no such column in {found}; name it in the first line")
    for number, cells in numbered:
        where = f"{path}:{number}"
        if len(cells) != len(names):
            raise TraceError(f"{where}: {len(cells)} cells under {len(names)} columns; write one cell a column")
        of_column = dict(zip(names, cells, strict=True))
        prompt = _tokens(of_column[TOKENS_COLUMN], f"{where}: {TOKENS_COLUMN}")
        answer = _tokens(of_column.get(ANSWER_COLUMN, "0"), f"{where}: {ANSWER_COLUMN}")
        yield number, TraceRow(_time_ns(of_column[TIME_COLUMN], where), prompt * BYTES_PER_TOKEN, answer)


def _json_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, TraceRow]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            found = parse_json(line)
        except ValueError as error:
            raise TraceError(f"{where}: is not JSON ({error}); write one object a line") from error
        if not isinstance(found, dict):
            raise TraceError(f"{where}: is not an object; write timestamp, input_length, output_length and hash_ids")
        prompt, answer = (_length(found, name, where) for name in ("input_length", "output_length"))
        yield number, TraceRow(_ms(found, where), prompt * BYTES_PER_TOKEN, answer, _blocks(found, prompt, where))


def _length(found: Mapping[str, Any], name: str, where: str) -> int:
    value = found.get(name)
    if type(value) is not int:
        raise TraceError(f"{where}: {name}: {_shown(str(value))} is not a whole number; write how many tokens")
    return _tokens(str(value), f"{where}: {name}")


def _ms(found: Mapping[str, Any], where: str) -> int:
    value = found.get("timestamp")
    if not isinstance(value, int | float) or not 0 <= value <= _MAX_MS:
        raise TraceError(f"{where}: timestamp: {_shown(str(value))} is not a time; write milliseconds from 0")
    return round(value * (_NS // 1_000))


def _blocks(found: Mapping[str, Any], prompt: int, where: str) -> tuple[int, ...]:
    value, blocks = found.get("hash_ids"), -(-prompt // BLOCK_TOKENS)
    if not isinstance(value, list) or any(type(each) is not int or each < 0 for each in value):
        raise TraceError(f"{where}: hash_ids: is not a list of whole numbers from 0; write one for each block")
    if len(value) != blocks:
        raise TraceError(
            f"{where}: hash_ids: has {len(value)} numbers, and {prompt} tokens have {blocks} blocks of {BLOCK_TOKENS}; "
            "write one for each"
        )
    return tuple(value)


def _numbered(lines: Iterator[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """Non-empty lines with their 1-based numbers."""
    reader = csv.reader(lines)
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


def _tokens(cell: str, where: str) -> int:
    if _TOKENS.fullmatch(cell.strip()) is None:
        raise TraceError(f"{where}: {_shown(cell)} is not a whole number; write how many tokens")
    tokens = int(cell.strip())
    if tokens < 0:
        raise TraceError(f"{where}: {tokens} is negative; write how many tokens, 0 or more")
    if tokens > _MOST_TOKENS:
        raise TraceError(f"{where}: {tokens} is too large; a request holds {_MOST_TOKENS} at most")
    return tokens


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
