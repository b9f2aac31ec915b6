"""Which requests have come to a replica as shadow copies: the evidence that nothing was left out."""

from __future__ import annotations

from collections import deque

KEPT = 100_000


class ShadowJournal:
    """Request ids by routing key.

    Args:
        kept: ids remembered of each model version; beyond it the oldest go.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._ids: dict[str, deque[str]] = {}
        self._counts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Of all that ever came."""
        return sum(self._counts.values())

    def add(self, routing_key: str, request_id: str) -> None:
        """One has come."""
        ids = self._ids.get(routing_key)
        if ids is None:
            ids = self._ids[routing_key] = deque(maxlen=self._kept)
            self._counts[routing_key] = 0
        ids.append(request_id)
        self._counts[routing_key] += 1

    def listed(self) -> dict[str, tuple[list[str], int]]:
        """For each routing key the ids, oldest first, and how many older ones are no longer remembered."""
        return {key: (list(ids), self._counts[key] - len(ids)) for key, ids in self._ids.items()}
