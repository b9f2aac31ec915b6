"""SIGINT and SIGTERM, which ask a driver to stop: from its first moment on, none is lost, and none ends it at once.

A process that starts one holds them back; it keeps those that come until its engine takes them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)
_kept: list[str] = []


@contextmanager
def held_back() -> Iterator[None]:
    """A process that is started in the body gets none of them until it calls :func:`keep`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep() -> None:
    """Keeps those that come from now on, and that were held back, for :func:`take`; on the main thread."""
    for number in STOPS:
        signal.signal(number, _keep)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def take(register: Callable[[signal.Signals, Callable[[str], None], str], object], stop: Callable[[str], None]) -> None:
    """Has their names given to ``stop`` from now on, those that were kept first.

    Args:
        register: an event loop's, e.g. ``add_signal_handler``; called with a signal, what to call, and with what.
        stop: called with a name, e.g. ``SIGINT``.
    """
    for number in STOPS:
        register(number, stop, number.name)
    while _kept:
        stop(_kept.pop(0))


def _keep(number: int, frame: FrameType | None) -> None:
    del frame
    _kept.append(signal.Signals(number).name)
