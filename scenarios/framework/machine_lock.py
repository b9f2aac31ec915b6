"""Whose turn it is on this machine, which scenarios of several workers share."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def taking_turns(path: Path) -> Iterator[Turn]:
    """Takes part in the turns that a file stands for."""
    with path.open("a") as file:
        yield Turn(file)


class Turn:
    """Lets whoever measures latencies have this machine without the other workers' scenarios.

    Args:
        file: that all workers have open, each by itself; it is the kernel that keeps the lock, and lets go of a dead
            one's.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @contextmanager
    def shared(self) -> Iterator[None]:
        """With others that share it; waits until nobody is alone."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within a shared turn: waits until the others have ended what they are at, and keeps them waiting."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_SH)
