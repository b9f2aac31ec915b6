"""Sends copies of requests to shadows, beside the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.shadow_sender import LIMIT, ShadowSender
from services.gateway.replicas import FullError

if TYPE_CHECKING:
    from models.apis import Method
    from services.gateway.pool import Pool


class PoolShadowSender:
    """Sends copies to the replicas of their shadow; see :class:`lab.client.shadow_sender.ShadowSender`.

    Args:
        pool: where the replicas are.
        limit: copies in flight at once; more are dropped.
    """

    def __init__(self, pool: Pool, limit: int = LIMIT) -> None:
        self._pool = pool
        self._sender = ShadowSender(limit)

    @property
    def sent(self) -> int:
        """Copies that were sent, answered or not."""
        return self._sender.sent

    @property
    def dropped(self) -> int:
        """Copies that were not sent, because of the limit or because the shadow has no replica."""
        return self._sender.dropped

    def send(self, method: Method, payload: bytes, *, routing_key: str, request_id: str) -> None:
        """Sends a copy to the version with this key, once the request itself is on its way."""
        backend = self._pool.backend(routing_key)
        try:
            connection = backend.take() if backend is not None else None
        except FullError as full:
            self._sender.drop(f"{routing_key}: {full}")
            return
        if connection is None:
            self._sender.drop(f"{routing_key} has no healthy replica")
            return
        if not self._sender.send(
            connection.channel,
            method,
            payload,
            routing_key=routing_key,
            request_id=request_id,
            done=connection.release,
        ):
            connection.release()

    async def settle(self) -> None:
        """Returns once no copy is in flight, or after a moment; called before the pool is closed."""
        await self._sender.settle()
