"""Sends copies of requests to shadows, beside the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.shadow_sender import LIMIT, ShadowSender
from services.gateway.request import FullError

if TYPE_CHECKING:
    from models.apis import Method
    from services.gateway.pool import Pool


class PoolShadowSender(ShadowSender):
    """Sends copies to the replicas of their shadow.

    Args:
        pool: where the replicas are.
        limit: copies in flight at once; more are dropped.
    """

    def __init__(self, pool: Pool, limit: int = LIMIT) -> None:
        super().__init__(limit)
        self._pool = pool

    def copy(self, method: Method, payload: bytes, *, routing_key: str, request_id: str) -> None:
        """Sends a copy to the version with this key, once the request itself is on its way."""
        backend = self._pool.backend(routing_key)
        try:
            connection = backend.take() if backend is not None else None
        except FullError as full:
            self.dropped_at_bound += 1
            self.drop(f"{routing_key}: {full}")
            return
        if connection is None:
            self.drop(f"{routing_key} has no healthy replica")
            return
        channel, done = connection.channel, connection.release
        if not self.send(channel, method, payload, routing_key=routing_key, request_id=request_id, done=done):
            connection.release()
