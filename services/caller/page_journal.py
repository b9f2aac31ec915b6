"""The journal of driven pages: every call that this caller made for one, and every page of its own, as JSON lines.

::

    {"call": [<values of a record, in field order; sequence 0>]}
    {"page": {"id": "1f3a90c2-0000002c.1.0", "sent_ns": …, "done_ns": …, "status": "OK", "left_ms": 412, "missing": []}}

One file a run, in the unit's folder: a caller that is killed loses what it was building, and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from lab.errors import InputError, UnitError

KEPT_RUNS = 8
"""Journals in the folder; the oldest is removed for a new one."""

MAX_BYTES = 1 << 30
"""Of one journal: about two million calls."""

_FILE = "pages-{}.jsonl"
_RUN = re.compile("[0-9a-f]{8}")
_PART_BYTES = 256 * 1024
_LOOK_EVERY_S = 0.05
_END = b'{"end":true}\n'


class PageJournal:
    """Keeps what happened, by run.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended: set[str] = set()

    def keep(self, run: str, *entries: Mapping[str, Any]) -> None:
        """Appends entries, all or none.

        Raises:
            InputError: the run has been ended, or its journal is full.
            UnitError: the file cannot be written.
        """
        path = self._path(run)
        if run in self._ended:
            raise InputError(f"run {run} has been ended")
        if not path.exists():
            self._make_room()
        elif path.stat().st_size > MAX_BYTES:
            raise InputError(f"run {run}: its journal is full; drive fewer pages")
        _append(path, b"".join(orjson.dumps(entry) + b"\n" for entry in entries))

    def end(self, run: str) -> None:
        """Appends the end of a run; raises as :meth:`keep` does."""
        path = self._path(run)
        if run not in self._ended:
            _append(path, _END)
            self._ended.add(run)

    async def read(self, run: str, after: int) -> AsyncIterator[bytes]:
        """Yields the journal from a position on, and what is added, until the run is ended."""
        path = self._path(run)
        last = b""
        while not last.endswith(_END):
            if path.exists():
                with path.open("rb") as file:
                    file.seek(after)
                    while part := file.read(_PART_BYTES):
                        after, last = after + len(part), (last + part)[-len(_END) :]
                        yield part
            await asyncio.sleep(_LOOK_EVERY_S)

    def _path(self, run: str) -> Path:
        if not _RUN.fullmatch(run):
            raise InputError(f"run: {run[:40]!r} is not eight hexadecimal digits")
        return self._folder / _FILE.format(run)

    def _make_room(self) -> None:
        files = sorted(self._folder.glob(_FILE.format("*")), key=lambda each: each.stat().st_mtime_ns)
        for each in files[: max(0, len(files) - KEPT_RUNS + 1)]:
            each.unlink()


def _append(path: Path, lines: bytes) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                while lines:  # a disk takes what fits, and refuses the rest
                    lines = lines[file.write(lines) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise UnitError(f"{path.name} cannot be written: {error.strerror}") from None
