"""Treats SIGTERM and SIGHUP, from ``kill``, a timeout or a closed terminal, like Ctrl-C.

What a command does on Ctrl-C, such as taking down a lab of its own, it then does on these signals, too.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """In the body, SIGTERM and SIGHUP act as Ctrl-C does; only the first of them, so that clean-up can finish.

    Signals that were ignored before, as by ``nohup``, stay ignored.
    """
    interrupted = False

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            return
        interrupted = True
        # A command may handle Ctrl-C itself, as a rollout does during a publish; then it handles these, too.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handled = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
