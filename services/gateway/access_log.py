"""One line of JSON a request, written in batches so that a request hardly pays for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

_FLUSH_INTERVAL_S = 0.25
_FIELDS = ("time", "request_id", "use_case", "caller", "key", "revision", "status", "ms")

Entry = tuple[float, str, str, str, str, int, str, float]


class AccessLog:
    """Appends to a file.

    Args:
        path: the file; None: nothing is logged.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("ab", buffering=0)
        self._entries: list[Entry] = []

    def add(
        self, *, request_id: str, use_case: str, caller: str, key: str, revision: int, status: str, began: float
    ) -> None:
        """One request is done; ``began`` as by :func:`time.perf_counter`."""
        if self._file is not None:
            ms = (time.perf_counter() - began) * 1000
            self._entries.append((time.time(), request_id, use_case, caller, key, revision, status, ms))

    async def run(self) -> None:
        """Writes what has gathered, again and again until cancelled; then the rest."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_INTERVAL_S)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Writes what has gathered."""
        if self._file is None or not self._entries:
            return
        entries, self._entries = self._entries, []
        lines = [orjson.dumps(dict(zip(_FIELDS, entry, strict=True))) for entry in entries]
        self._file.write(b"\n".join((*lines, b"")))

    def close(self) -> None:
        """Writes the rest and closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
