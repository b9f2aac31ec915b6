"""Treats SIGTERM and SIGHUP, from ``kill``, a timeout or a closed terminal, like Ctrl-C.

What a command does on Ctrl-C, such as taking down its own lab, it then does on these signals, too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from lab.errors import LabError

if TYPE_CHECKING:
    _Handler: TypeAlias = Callable[[int, FrameType | None], None]


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """In the body, SIGTERM and SIGHUP act as Ctrl-C does; only the first of them, so that clean-up can finish.

    Signals that were ignored before, as by ``nohup``, stay ignored.

    Raises:
        KeyboardInterrupt: also in the place of a library's own error after it. Pydantic makes one of an interrupt that
            comes while it serializes, and keeps no cause.
    """
    arrived = interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            return
        interrupted = True
        # A command may handle Ctrl-C itself, as a rollout does during a publish; then it handles these, too.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            ctrl_c(number, frame)
        else:
            on_ctrl_c(signal.SIGINT, frame)

    def ctrl_c(_number: int, _frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = True
        raise KeyboardInterrupt

    handlers: dict[signal.Signals, _Handler] = {signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers[signal.SIGINT] = ctrl_c
    with handled_by(handlers):
        try:
            yield
        except (LabError, OSError):
            raise
        except Exception as error:
            if arrived:
                raise KeyboardInterrupt from error
            raise


@contextmanager
def handled_by(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """In the body, these signals have these handlers, but for those that are ignored."""
    before = {number: signal.getsignal(number) for number in handlers}
    handled = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
