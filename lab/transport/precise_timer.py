"""A timer that wakes the event loop at a given time, to about 10 µs.

The loop's own timers have a resolution of 1 ms, in libuv and in ``epoll_wait``: too coarse for a thousand requests per
second. On Linux the loop waits for a ``timerfd`` as for any other descriptor; elsewhere it uses its own timer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import TypeAlias

NS = 1_000_000_000

_TFD_TIMER_ABSTIME = 1


class LoopTimer:
    """The event loop's own timer, for :func:`new_precise_timer`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        """Wakes at this time of ``time.monotonic_ns``, at once if it is past; replaces the time set before."""
        self.close()
        self._handle = self._loop.call_later(max(0, at_ns - time.monotonic_ns()) / NS, self._callback)

    def close(self) -> None:
        """Stops the timer."""
        if self._handle is not None:
            self._handle.cancel()


class TimerfdTimer:
    """A ``timerfd``, see timerfd_create(2). It is never read: setting it makes it unreadable until it is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = _create()
        loop.add_reader(self._descriptor, callback)

    def set(self, at_ns: int) -> None:
        """See :class:`LoopTimer`."""
        _set(self._descriptor, max(1, at_ns))  # 0 would disarm it

    def close(self) -> None:
        """See :class:`LoopTimer`."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


PreciseTimer: TypeAlias = LoopTimer | TimerfdTimer


def new_precise_timer(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> PreciseTimer:
    """The most precise timer that this machine has.

    It calls back once for each ``set``. It may be up to 1 ms early, so the callback checks the clock.
    """
    return TimerfdTimer(loop, callback) if platform.system() == "Linux" else LoopTimer(loop, callback)


if sys.version_info >= (3, 13):

    def _create() -> int:
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def _set(descriptor: int, at_ns: int) -> None:
        os.timerfd_settime_ns(descriptor, flags=os.TFD_TIMER_ABSTIME, initial=at_ns)

else:

    class _TimerSpec(ctypes.Structure):
        _fields_ = (
            ("interval_s", ctypes.c_long),
            ("interval_ns", ctypes.c_long),
            ("value_s", ctypes.c_long),
            ("value_ns", ctypes.c_long),
        )

    _libc = ctypes.CDLL(None, use_errno=True)

    def _create() -> int:
        # The descriptor's flags have the values of open(2).
        descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(descriptor)

    def _set(descriptor: int, at_ns: int) -> None:
        spec = _TimerSpec(0, 0, at_ns // NS, at_ns % NS)
        if _libc.timerfd_settime(descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
