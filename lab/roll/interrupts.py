"""Ctrl-C in the midst of a roll: heard at once, except while a table is on its way out."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Interruption:
    """Takes SIGINT for as long as it is entered; elsewhere than on the main thread it hears nothing.

    Attributes:
        asked: whether somebody has asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._shielded = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises :class:`KeyboardInterrupt` if somebody has asked to stop.

        Needed after what deals with Ctrl-C in its own way: a driver finishes what is in flight and returns.
        """
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Lets the body finish whatever is asked: half a publish leaves nobody the wiser."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if not self._shielded:
            raise KeyboardInterrupt
