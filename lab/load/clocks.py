"""Clocks of drivers in several places, against this process's: measured over the connection to each.

A driver's records count from its own monotonic clock. The coordinator gives it the difference to the Unix time here, so
that the records of all drivers have one time scale, independent of their own Unix clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lab.clock import offset_ns

PINGS = 20
"""Questions for one measurement; the answer that came soonest counts."""
_NS_PER_MS = 1e6


class Sample(NamedTuple):
    """One question for a driver's clocks; the first and the last are ``time.monotonic_ns`` here, the others there."""

    asked_ns: int
    monotonic_ns: int
    unix_ns: int
    answered_ns: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A driver's clocks, nanoseconds.

    Attributes:
        ahead_ns: its monotonic clock minus this process's.
        unix_ahead_ns: its Unix clock minus this machine's.
        error_ns: half the round trip: both may be wrong by this much.
    """

    ahead_ns: int
    unix_ahead_ns: int
    error_ns: int


def clock_of(samples: Sequence[Sample]) -> Clock:
    """The clocks by the sample with the shortest round trip."""
    best = min(samples, key=lambda each: each.answered_ns - each.asked_ns)
    middle_ns = (best.asked_ns + best.answered_ns) // 2
    unix_here_ns = middle_ns + offset_ns()
    return Clock(
        best.monotonic_ns - middle_ns, best.unix_ns - unix_here_ns, (best.answered_ns - best.asked_ns + 1) // 2
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReport:
    """What the coordinator knows of one driver of several.

    Attributes:
        name: with its process, container or pod.
        planned: requests of its share; None if it has reported no result.
        sent: requests that it reported last.
        clock_ms: its Unix clock minus this machine's, before the run; None if it was not measured.
        clock_error_ms: how far its times may be from this machine's, beside the drift.
        drift_ms: by how much its monotonic clock ran ahead of this machine's during the run; None if it was lost.
        silent_s: the longest time without a report; drivers report every second.
        problem: why its share is not complete; empty if it is.
    """

    name: str
    planned: int | None
    sent: int
    clock_ms: float | None
    clock_error_ms: float | None
    drift_ms: float | None
    silent_s: float
    problem: str = ""


def clock_fields(before: Clock | None, after: Clock | None) -> dict[str, float | None]:
    """The fields of a report that are about clocks."""
    if before is None:
        return {"clock_ms": None, "clock_error_ms": None, "drift_ms": None}
    return {
        "clock_ms": before.unix_ahead_ns / _NS_PER_MS,
        "clock_error_ms": max(before.error_ns, after.error_ns if after else 0) / _NS_PER_MS,
        "drift_ms": None if after is None else (after.ahead_ns - before.ahead_ns) / _NS_PER_MS,
    }
