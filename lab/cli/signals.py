"""Being ended from outside, by ``kill``, a time-out or a terminal that goes away, is heard as Ctrl-C is.

So what a command does on Ctrl-C, such as taking down a lab of its own, it does on these as well.
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
    """Within, SIGTERM and SIGHUP do what Ctrl-C does; only the first of them, so that clearing up comes to its end.

    What was ignored before, as by ``nohup``, still is.
    """
    heard = False

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            return
        heard = True
        # Who takes Ctrl-C in a way of its own, as a roll does in the midst of a publish, takes these so, too.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
