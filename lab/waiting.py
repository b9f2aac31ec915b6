"""Polls conditions until a deadline; the error names the last state seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from lab.errors import DeadlineError

T = TypeVar("T")

POLL_INTERVAL = timedelta(milliseconds=20)
_LONGEST_INTERVAL_S = 0.2
_LATE_BY = 0.05


def eventually(what: str, probe: Callable[[], T], *, within: timedelta, until: Callable[[T], bool] = bool) -> T:
    """Calls ``probe`` until ``until`` holds for its result, and returns that result.

    The interval between calls grows with the time waited, from 20 to 200 ms, since polling takes processor time from
    the process that is waited for.

    Args:
        what: the condition, for the error: "node homepage has revision 7".
        probe: reads the current state.
        within: deadline.
        until: the condition on that state; truth by default.

    Raises:
        DeadlineError: the condition did not hold in time; names the last state.
    """
    began = time.monotonic()
    while True:
        seen = probe()
        if until(seen):
            return seen
        waited_s = time.monotonic() - began
        if waited_s >= within.total_seconds():
            raise DeadlineError(f"{what}: not within {within.total_seconds():g} s; last seen: {seen!r}")
        time.sleep(_pause_s(waited_s))


def consistently(what: str, probe: Callable[[], T], *, during: timedelta, until: Callable[[T], bool] = bool) -> T:
    """Calls ``probe`` during a time in which ``until`` must hold for every result, and returns the last result.

    Polls at the intervals of :func:`eventually`.

    Raises:
        DeadlineError: the condition did not hold; names the state in which it did not.
    """
    began = time.monotonic()
    while True:
        seen = probe()
        if not until(seen):
            raise DeadlineError(f"{what}: stopped holding; seen: {seen!r}")
        waited_s = time.monotonic() - began
        if waited_s >= during.total_seconds():
            return seen
        time.sleep(_pause_s(waited_s))


def _pause_s(waited_s: float) -> float:
    return min(max(POLL_INTERVAL.total_seconds(), waited_s * _LATE_BY), _LONGEST_INTERVAL_S)
