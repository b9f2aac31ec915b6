"""Breaking off drivers that other threads wait for: Ctrl-C reaches the main thread alone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Breaking:
    """What several drivers are broken off by, all at once.

    A driver that is told once sends nothing more and lets what is in flight finish; told again, it gives that up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reached: list[Callable[[], None]] = []
        self.asked = False

    def off(self) -> None:
        """Tells all drivers that run, and those that begin after this."""
        with self._lock:
            self.asked = True
            for tell in self._reached:
                tell()

    @contextmanager
    def reaching(self, tell: Callable[[], None]) -> Iterator[None]:
        """While the body runs, a driver is told in this way."""
        with self._lock:
            self._reached.append(tell)
            if self.asked:
                tell()
        try:
            yield
        finally:
            with self._lock:
                self._reached.remove(tell)
