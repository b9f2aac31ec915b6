"""Limits for this process's own log: lines of a kind a minute, characters a line, and bytes in all.

Strangers cause most of the lines, by connecting and being refused. What is left out is counted and said, on a timer and
at the end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

log = logging.getLogger(__name__)

MOST_LINES, WITHIN_S = 60, 60.0
"""Lines of one kind, which is one place in the code, and the time in which so many are written, seconds."""

MOST_CHARACTERS = 2_000
"""Of one line; a traceback is not cut."""

MOST_BYTES, KEPT_BYTES = 16 * 1024 * 1024, 1024 * 1024
"""Size of the log at which its beginning is dropped, and how much of its end stays. gRPC's own lines count, too."""

_LOOK_EVERY_S = 1.0
_STDERR = 2


class LogLimit(logging.Filter):
    """Passes a limited number of lines of each kind, and counts the others.

    Args:
        now_s: the clock, seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._began_s = now_s()
        self._lines: dict[tuple[str, int], int] = {}
        self._examples: dict[tuple[str, int], str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; cuts a long one."""
        kind = record.name, record.lineno
        self._lines[kind] = lines = self._lines.get(kind, 0) + 1
        if lines > MOST_LINES:
            self._examples.setdefault(kind, _cut(record.getMessage(), MOST_CHARACTERS // 10))
            return False
        message = record.getMessage()
        if len(message) > MOST_CHARACTERS:
            record.msg, record.args = _cut(message, MOST_CHARACTERS), ()
        return True

    def report(self, *, is_last: bool = False) -> None:
        """Logs how many lines were left out, once a period is over or at the end, and begins the next period."""
        if not is_last and self._now_s() - self._began_s < WITHIN_S:
            return
        left_out = [(self._lines[kind] - MOST_LINES, example) for kind, example in self._examples.items()]
        self._began_s, self._lines, self._examples = self._now_s(), {}, {}
        for count, example in left_out:
            log.warning("%d lines were left out of this log, the first of them: %s", count, example)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def drop_beginning(descriptor: int, most: int = MOST_BYTES, kept: int = KEPT_BYTES) -> None:
    """Drops the beginning of a log that has become too large, and says so in its place.

    Args:
        descriptor: of the log, which is open for appending. Nothing is done if it is not a file.
        most: its largest size, bytes.
        kept: how much of its end stays, bytes.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= most:
        return
    with Path(f"/proc/self/fd/{descriptor}").open("rb") as whole:
        whole.seek(-kept, os.SEEK_END)
        whole.readline()
        end = whole.read()
    os.ftruncate(descriptor, 0)
    note = f"{status.st_size - len(end)} bytes were dropped here: this log has {most} bytes at most\n"
    os.write(descriptor, note.encode() + end)


@asynccontextmanager
async def limited_log() -> AsyncIterator[None]:
    """Limits the log of this process for as long as the context lasts."""
    limit, handlers = LogLimit(), logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(limit)

    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            limit.report()
            drop_beginning(_STDERR)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        limit.report(is_last=True)
        for handler in handlers:
            handler.removeFilter(limit)
