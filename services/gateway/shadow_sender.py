"""Shadow copies, sent beside the requests that they are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.shadow_sender import LIMIT
from lab.client.shadow_sender import Copies as Sender
from services.gateway.replicas import FullError

if TYPE_CHECKING:
    from models.apis import Method
    from services.gateway.pool import Pool


class Copies:
    """Sends copies to wherever their shadow is; see :class:`lab.client.shadow_sender.Copies`.

    Args:
        pool: where the replicas are.
        limit: copies under way at once; more are dropped.
    """

    def __init__(self, pool: Pool, limit: int = LIMIT) -> None:
        self._pool = pool
        self._sender = Sender(limit)

    @property
    def sent(self) -> int:
        """Copies that were sent, whatever became of them."""
        return self._sender.sent

    @property
    def dropped(self) -> int:
        """Copies that were not, because of the limit or because the shadow has no replica."""
        return self._sender.dropped

    def send(self, method: Method, payload: bytes, *, routing_key: str, request_id: str) -> None:
        """Sends a copy to the version with this key, as soon as the request itself is on its way."""
        backend = self._pool.backend(routing_key)
        try:
            lane = backend.take() if backend is not None else None
        except FullError as full:
            self._sender.drop(f"{routing_key}: {full}")
            return
        if lane is None:
            self._sender.drop(f"{routing_key} has no healthy replica")
            return
        if not self._sender.send(
            lane.wire, method, payload, routing_key=routing_key, request_id=request_id, done=lane.release
        ):
            lane.release()

    async def settle(self) -> None:
        """Returns once no copy is under way, or after a moment; before the pool is closed."""
        await self._sender.settle()
