"""The attempts of one routing key in flight to one address, and what they have reserved there.

They outlive a connection: a replica that was lost for a moment, and comes back, still has them.
"""

from __future__ import annotations

import time


class AttemptsInFlight:
    """Attempts by the number of their pick; each reserves a slot and its prompt's tokens for a limited time.

    Args:
        limit_s: time after which an attempt that has not ended reserves nothing any more, seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._open: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        """How many there are, also those that reserve nothing any more."""
        return len(self._open)

    def add(self, number: int, tokens: int) -> None:
        """Adds the attempt of the pick of this number, with the tokens of its prompt."""
        self._open[number] = time.monotonic(), tokens

    def end(self, number: int) -> None:
        """Takes it out."""
        del self._open[number]

    def reserved(self) -> tuple[int, int]:
        """Slots and tokens that are reserved now."""
        until = time.monotonic() - self._limit_s
        tokens = [tokens for since, tokens in self._open.values() if since > until]
        return len(tokens), sum(tokens)
