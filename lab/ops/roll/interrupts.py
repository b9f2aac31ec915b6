"""Ctrl-C during a rollout: takes effect at once, except while a publish is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class InterruptHandler:
    """A context manager that handles SIGINT; outside the main thread it does nothing.

    Attributes:
        received: whether SIGINT has arrived.
    """

    def __init__(self) -> None:
        self.received = False
        self._shielded = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises :class:`KeyboardInterrupt` if SIGINT has arrived.

        Needed after load: its driver handles Ctrl-C itself, finishes the requests in flight and returns.
        """
        if self.received:
            raise KeyboardInterrupt

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Delays the interrupt until the body has ended, so that no publish is left half done."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        if not self._shielded:
            raise KeyboardInterrupt
