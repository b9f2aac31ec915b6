"""Waiting for conditions: always with a deadline, always with the last state seen in the error."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from lab.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_INTERVAL = timedelta(milliseconds=20)
_LONGEST_INTERVAL_S = 0.2
_LATE_BY = 0.05


def eventually(what: str, probe: Callable[[], T], *, within: timedelta, until: Callable[[T], bool] = bool) -> T:
    """Asks ``probe`` again and again until ``until`` holds for what it returns, and returns that.

    The longer it has waited the less often it asks: what comes after ten seconds may be seen a fifth of a second later,
    and the processor that a look costs is that of whoever is waited for.

    Args:
        what: the condition, for the error: "node homepage has revision 7".
        probe: looks once.
        within: deadline.
        until: the condition on what was seen; truth by default.

    Raises:
        DeadlineError: with the last state seen.
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
    """Asks ``probe`` again and again for the whole time; ``until`` must hold each time. Returns what was seen last.

    As often as :func:`eventually`.

    Raises:
        DeadlineError: with the state that broke it.
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
