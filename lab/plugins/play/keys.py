"""Pauses at Space or Enter, in a terminal, and at a line from the console, whose button sends one."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

from lab.identity.user import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSES = frozenset(b" \r\n")
_POLL_S = 0.2


class Keys:
    """A context manager that listens while its body runs; elsewhere than in a terminal or a page, nobody can pause.

    Args:
        pressed: called with whether to pause, when that changes, from another thread.

    Attributes:
        listening: whether anybody can press a key.
    """

    def __init__(self, pressed: Callable[[bool], None]) -> None:
        self._pressed, self._end, self._go_on = pressed, Event(), Event()
        self._go_on.set()
        self._terminal: list[Any] | None = None
        self.listening = False

    def __enter__(self) -> Self:
        here = sys.stdin is not None and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        self.listening = here or bool(os.environ.get(PAGE))
        if here:
            self._terminal = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)  # a key counts at once; Ctrl-C stays what it is
        if self.listening:
            self._thread = Thread(target=self._listen, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self.listening:
            self._thread.join()  # or it would take the next key from the shell
        if self._terminal is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)

    @property
    def paused(self) -> bool:
        """Whether a pause was asked for."""
        return not self._go_on.is_set()

    def wait(self, seconds: float) -> None:
        """Waits so many seconds, and for as long as the play is paused."""
        if self.listening:
            self._end.wait(seconds)
        while not self._go_on.wait(_POLL_S):
            pass

    def _listen(self) -> None:
        number = sys.stdin.fileno()
        while not self._end.is_set():
            if not select.select([number], [], [], _POLL_S)[0]:
                continue
            if not (typed := os.read(number, 64)):
                break  # the page has closed its end
            for _ in range(sum(each in _PAUSES for each in typed) % 2):
                (self._go_on.set if self.paused else self._go_on.clear)()
                self._pressed(self.paused)
        self._go_on.set()
