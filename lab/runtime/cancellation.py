"""Cancels load drivers from another thread: Ctrl-C reaches only the main thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelToken:
    """Cancels several drivers at once.

    A driver that is cancelled once sends no more requests and lets those in flight finish; cancelled again, it drops
    them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.cancelled = False

    def cancel(self) -> None:
        """Cancels all drivers that run, and those that start later."""
        with self._lock:
            self._cancel()

    def cancel_once(self) -> None:
        """The same, unless they were cancelled before: those in flight finish."""
        with self._lock:
            if not self.cancelled:
                self._cancel()

    @contextmanager
    def notifying(self, notify: Callable[[], None]) -> Iterator[None]:
        """Calls ``notify`` on every cancellation while the body runs, and at once if it was cancelled before."""
        with self._lock:
            self._callbacks.append(notify)
            if self.cancelled:
                notify()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(notify)

    def _cancel(self) -> None:
        self.cancelled = True
        for notify in self._callbacks:
            notify()
