"""Wakes a thread when its process has used some processor time, so that an idle process is not woken. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading

_PROCESS_CPUTIME, _SIGEV_THREAD_ID = 2, 4  # of Linux's timer_create(2), which Python does not have
_SIGEVENT = struct.Struct("@Piii44x")  # value, signal, how it is sent, and to which thread


class CpuAlarm:
    """A timer of this process's processor time, for the thread that makes it.

    Its signal goes to that thread alone, which blocks it: nothing else in the process is interrupted.

    Args:
        every_s: processor time of all threads from one alarm to the next, seconds; the kernel adds a tick at most.

    Raises:
        OSError: the system has no such timer.
    """

    def __init__(self, every_s: float) -> None:
        self._signal = signal.SIGRTMAX
        signal.pthread_sigmask(signal.SIG_BLOCK, {self._signal})
        libc, timer = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p()
        event = _SIGEVENT.pack(0, self._signal, _SIGEV_THREAD_ID, threading.get_native_id())
        every = divmod(round(every_s * 1e9), 1_000_000_000)
        try:
            failed = libc.timer_create(_PROCESS_CPUTIME, event, ctypes.byref(timer)) or libc.timer_settime(
                timer, 0, struct.pack("@4l", *every, *every), None
            )
        except AttributeError as missing:  # of a C library that has them elsewhere
            raise OSError(str(missing)) from None
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def wait(self, timeout_s: float) -> None:
        """Returns at an alarm, at once if there was one since the last, or when the time is over, seconds."""
        signal.sigtimedwait({self._signal}, timeout_s)
