"""The clock of a lab: Unix time that all its processes on one machine agree on, also when the wall clock is stepped.

It is the monotonic clock, which the kernel shares among processes and containers, plus an offset that ``lab up`` fixes.
Where units run under several kernels, they have no such clock in common, and lab time is the wall clock.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic_ns, time_ns  # noqa: TID251 (here alone)

VARIABLE = "LAB_CLOCK"
"""Environment variable of a lab's processes: a boot of a machine, and the offset; empty for the wall clock."""
PATTERN = r"^([0-9a-f-]{36} -?\d{1,20})?$"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_READINGS = 5  # one of two clocks may be interrupted

_offset_ns: int | None


def lab_time_ns() -> int:
    """Returns lab time, Unix nanoseconds."""
    return time_ns() if _offset_ns is None else monotonic_ns() + _offset_ns


def offset_ns() -> int:
    """Returns lab time minus the monotonic clock here, nanoseconds; it is constant if the lab's clock is fixed."""
    return measured_offset_ns() if _offset_ns is None else _offset_ns


def measured_offset_ns() -> int:
    """Returns the wall clock minus the monotonic clock, nanoseconds, by the reading that took the shortest time."""
    readings = [(monotonic_ns(), time_ns(), monotonic_ns()) for _ in range(_READINGS)]
    before_ns, unix_ns, after_ns = min(readings, key=lambda each: each[2] - each[0])
    return unix_ns - (before_ns + after_ns) // 2


def is_fixed() -> bool:
    """Returns whether this process follows a lab's clock, and not the wall clock."""
    return _offset_ns is not None


def lab_time_of(wall_ns: int) -> int:
    """Returns the lab time of a time by the wall clock, such as a file's, if that was not stepped since."""
    return wall_ns + offset_ns() - measured_offset_ns()


def fixed() -> str:
    """Returns a clock that shows Unix time now, as :data:`VARIABLE` has it; empty if the kernel has no boot id."""
    boot = _boot()
    return f"{boot} {measured_offset_ns()}" if boot else ""


def is_of_this_boot(clock: str) -> bool:
    """Returns whether a clock counts from the monotonic clock that this process reads."""
    return bool(clock) and clock.partition(" ")[0] == _boot()


def follow(clock: str) -> None:
    """Lets this process, and those that it starts, follow a clock; the wall clock if that is of another boot."""
    global _offset_ns  # noqa: PLW0603 (a process has one clock, and each request reads it several times)
    _offset_ns = _offset_of(clock)
    os.environ[VARIABLE] = clock


def _offset_of(clock: str) -> int | None:
    return int(clock.partition(" ")[2]) if is_of_this_boot(clock) else None


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


_offset_ns = _offset_of(os.environ.get(VARIABLE, ""))
