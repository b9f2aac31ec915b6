"""The file of spans: the latest ones, at most a number of them and of bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import UnitError

if TYPE_CHECKING:
    from services.collector.spans import StoredSpan

MOST_SPANS = 50_000
MOST_BYTES = 32 * 1024 * 1024
_PRIVATE = 0o600
# Of one trace: a request makes tens.
_MOST_SHOWN = 1_000
_TABLE = """
CREATE TABLE IF NOT EXISTS spans (number INTEGER PRIMARY KEY, trace TEXT, request TEXT, bytes INTEGER, document BLOB);
CREATE INDEX IF NOT EXISTS by_trace ON spans (trace);
CREATE INDEX IF NOT EXISTS by_request ON spans (request);
"""


class SpanStore:
    """Keeps the latest spans in a SQLite file that only its owner can read; older ones make room.

    Args:
        path: the file; made if there is none.
        most_spans: limit for the number of spans.
        most_bytes: limit for their documents together, bytes.

    Raises:
        UnitError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, most_spans: int = MOST_SPANS, most_bytes: int = MOST_BYTES) -> None:
        self._most_spans, self._most_bytes = most_spans, most_bytes
        try:
            path.touch(_PRIVATE)
            path.chmod(_PRIVATE)
            with ExitStack() as if_it_fails:
                self._file = sqlite3.connect(path, isolation_level=None)
                if_it_fails.callback(self._file.close)
                # A trace that a crash of the machine loses is no harm.
                self._file.executescript(f"PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; {_TABLE}")
                self._spans, self._bytes = self._file.execute(
                    "SELECT count(*), coalesce(sum(bytes), 0) FROM spans"
                ).fetchone()
                if_it_fails.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise UnitError(f"{path}: cannot keep spans: {error}") from None

    def add(self, spans: Iterable[StoredSpan]) -> None:
        """Stores spans, and removes the oldest over the limits.

        Raises:
            UnitError: the disk takes no more; none of them is stored.
        """
        rows = [(span.trace_id, span.request_id, len(span.document), span.document) for span in spans]
        before = self._spans, self._bytes
        try:
            self._file.execute("BEGIN")
            self._file.executemany("INSERT INTO spans (trace, request, bytes, document) VALUES (?, ?, ?, ?)", rows)
            self._spans += len(rows)
            self._bytes += sum(size for _, _, size, _ in rows)
            if self._spans > self._most_spans or self._bytes > self._most_bytes:
                self._make_room()
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            self._spans, self._bytes = before
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise UnitError(f"cannot keep spans: {error}") from None

    def _make_room(self) -> None:
        last = 0
        for number, size in self._file.execute("SELECT number, bytes FROM spans ORDER BY number"):
            if self._spans <= self._most_spans and self._bytes <= self._most_bytes:
                break
            last = number
            self._spans -= 1
            self._bytes -= size
        self._file.execute("DELETE FROM spans WHERE number <= ?", (last,))

    def find(self, name: str) -> list[bytes]:
        """Documents of the spans of the latest trace that has this request id or trace id; empty if none does."""
        which = "trace" if self._has_trace(name) else "request"
        found = self._file.execute(f"SELECT trace FROM spans WHERE {which} = ? ORDER BY number DESC LIMIT 1", (name,))  # noqa: S608 (one of two words)
        trace = found.fetchone()
        if trace is None:
            return []
        query = "SELECT document FROM spans WHERE trace = ? ORDER BY number LIMIT ?"
        return [document for (document,) in self._file.execute(query, (*trace, _MOST_SHOWN))]

    def _has_trace(self, name: str) -> bool:
        return self._file.execute("SELECT 1 FROM spans WHERE trace = ? LIMIT 1", (name,)).fetchone() is not None

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
