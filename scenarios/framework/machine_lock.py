"""Machine-wide read/write lock: latency scenarios run exclusively, all others share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def open_lock(path: Path) -> Iterator[MachineLock]:
    """The lock that a file stands for; each worker opens the file by itself."""
    with path.open("a") as file:
        yield MachineLock(file)


class MachineLock:
    """Held by the kernel, which releases it when its holder dies.

    A library's read/write lock was no fit: this one is upgraded from shared to exclusive and back within one process.

    Args:
        file: open for appending.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Holds the lock together with others; waits while another worker holds it exclusively."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within :meth:`shared`: waits until no other worker holds the lock, and keeps them waiting."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_SH)
