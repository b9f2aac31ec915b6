"""The retries that a page has left, handed down its tree as its deadline is: those of several hops do not multiply.

A proxy retries by itself, so each call gets its retries beforehand, and gives back what it has not used.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from lab.topologies import TOPOLOGIES

_UNREPORTED = frozenset({"CANCELLED", "DEADLINE_EXCEEDED"})
"""Statuses of calls that ended at the caller, before anything was reported."""


class PageRetries:
    """Retries of a page, of a part of one, or of one call.

    Args:
        left: how many there may be; None without a limit.

    Attributes:
        spent: how many were made.
    """

    __slots__ = ("left", "spent")

    def __init__(self, left: int | None) -> None:
        self.left, self.spent = left, 0

    def shared(self, parts: int) -> list[PageRetries]:
        """Divides what is left among parts that run in parallel; :meth:`take_back` follows."""
        if self.left is None:
            return [PageRetries(None) for _ in range(parts)]
        each, more = divmod(self.left, parts)
        shares = [each + (place < more) for place in range(parts)]
        random.shuffle(shares)
        return [PageRetries(share) for share in shares]

    def take_back(self, shares: Iterable[PageRetries]) -> None:
        """Takes back what the parts have not used."""
        spent = sum(share.spent for share in shares)
        self.spent += spent
        if self.left is not None:
            self.left = max(0, self.left - spent)

    def spend_all(self) -> None:
        """What was made is not known: as many as were allowed."""
        self.spent = self.left or 0

    def spend_reported(self, topology: str, status: str, attempts: int) -> None:
        """Counts the retries of a call, as far as its topology reports them."""
        can = TOPOLOGIES[topology].capabilities
        if can.retries and (not can.attempts_reported or status in _UNREPORTED):
            self.spend_all()
        else:
            self.spent = max(0, attempts - 1)
