"""The shadow copies that a replica received: evidence that none was lost."""

from __future__ import annotations

from collections import deque

KEPT = 100_000


class ShadowJournal:
    """Request ids of shadow copies by routing key.

    Args:
        kept: ids kept per model version; older ones are dropped.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._ids: dict[str, deque[str]] = {}
        self._counts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Number of all copies received."""
        return sum(self._counts.values())

    def add(self, routing_key: str, request_id: str) -> None:
        """Registers a copy."""
        ids = self._ids.get(routing_key)
        if ids is None:
            ids = self._ids[routing_key] = deque(maxlen=self._kept)
            self._counts[routing_key] = 0
        ids.append(request_id)
        self._counts[routing_key] += 1

    def listed(self) -> dict[str, tuple[list[str], int]]:
        """Routing key → ids, oldest first, and the number of older ones that were dropped."""
        return {key: (list(ids), self._counts[key] - len(ids)) for key, ids in self._ids.items()}
