"""The control plane's clock: Unix time that never goes backwards, even if the machine's clock does."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.clock import lab_time_ns


class Clock:
    """Follows the wall clock forwards; when the wall clock is set back, continues from the steady clock.

    Args:
        wall: the wall clock, Unix nanoseconds.
        steady: the monotonic clock, nanoseconds.
    """

    def __init__(self, wall: Callable[[], int] = lab_time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()

    def now_ns(self) -> int:
        """Unix nanoseconds, never less than an earlier result."""
        self._offset = max(self._offset, self._wall() - self._steady())
        return self._offset + self._steady()

    def advance_to(self, unix_ns: int) -> None:
        """Makes later results at least this, for example the time of the latest stored event."""
        self._offset = max(self._offset, unix_ns - self._steady())
