"""Whether this machine's clock was set during a run.

Records have a driver's monotonic times, and one difference to Unix time for the whole run. What units write down has
Unix times. A clock that is set between the two makes them contradict each other.
"""

from __future__ import annotations

from time import time_ns
from typing import NamedTuple

from lab.load.clocks import unix_offset_ns

_NS = 1_000_000_000
# A clock that is kept right is slewed by up to 0.5 ms a second; one reading of two clocks may be interrupted.
_SLEW, _READING_NS = 0.000_5, 50_000_000


class Began(NamedTuple):
    """When a run began, nanoseconds: Unix time, and that minus the monotonic clock."""

    unix_ns: int
    offset_ns: int

    @classmethod
    def now(cls) -> Began:
        """Returns this moment."""
        return cls(time_ns(), unix_offset_ns())


def jump_in_words(jump_ns: int, length_ns: int) -> str:
    """What to say of a clock that was set during a run; empty if it was only kept right.

    Args:
        jump_ns: by how much Unix time ran ahead of the monotonic clock during the run.
        length_ns: of the run.
    """
    if abs(jump_ns) <= _READING_NS + _SLEW * abs(length_ns - jump_ns):
        return ""
    how = f"{abs(jump_ns) / _NS:,.1f} s {'ahead' if jump_ns > 0 else 'back'}"
    return (
        f"this machine's clock was set {how} during the run, so times of the driver and of units contradict each "
        "other; run it again"
    )
