"""The control plane's clock: Unix time that never goes back, whatever is done to the machine's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Follows the machine's clock when that is set forward, and goes on at its own pace when that is set back.

    Args:
        wall: the machine's clock, Unix nanoseconds.
        steady: nanoseconds from any beginning, which nobody can set.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()

    def now_ns(self) -> int:
        """Unix nanoseconds, no earlier than ever before."""
        self._offset = max(self._offset, self._wall() - self._steady())
        return self._offset + self._steady()

    def has_been(self, unix_ns: int) -> None:
        """It has been as late as this already, before this process began."""
        self._offset = max(self._offset, unix_ns - self._steady())
