"""Shadow copies, sent beside the requests that they are made from."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc.aio

from lab.client import headers
from lab.routing.keys import COPY, COPY_HEADER, HEADER

if TYPE_CHECKING:
    from models.apis import Method
    from services.gateway.pool import Backend, Pool

# As many as a sidecar has: with a shadow that has stopped reading each holds its whole payload.
LIMIT = 128
_TIMEOUT_S = 10.0
_LOG_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Copies:
    """Sends copies. No request waits for one, nor for there to be room.

    Args:
        pool: where the replicas are.
        limit: copies under way at once; more are dropped.

    Attributes:
        sent: copies that were sent, whatever became of them.
        dropped: copies that were not, because of the limit or because the shadow has no replica.
    """

    def __init__(self, pool: Pool, limit: int = LIMIT) -> None:
        self.sent = self.dropped = 0
        self._pool = pool
        self._limit = limit
        self._under_way: set[asyncio.Task[None]] = set()
        self._log_not_before = 0.0

    def send(self, method: Method, payload: bytes, *, routing_key: str, request_id: str) -> None:
        """Sends a copy to the version with this key, as soon as the request itself is on its way."""
        backend = self._pool.backend(routing_key)
        if backend is None:
            self._drop(f"{routing_key} has no healthy replica")
        elif len(self._under_way) >= self._limit:
            self._drop(f"{self._limit} copies are under way already")
        else:
            self.sent += 1
            metadata = ((HEADER, routing_key), (COPY_HEADER, COPY), (headers.REQUEST_ID, request_id))
            backend.in_flight += 1
            task = asyncio.create_task(_send(backend, method, payload, metadata))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now >= self._log_not_before:
            self._log_not_before = now + _LOG_EVERY_S
            _log.warning("a shadow copy is dropped, the %d. so far: %s", self.dropped, reason)


async def _send(backend: Backend, method: Method, payload: bytes, metadata: Any) -> None:
    try:
        await backend.wire.ignored(method, payload, timeout_s=_TIMEOUT_S, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        _log.debug("a shadow copy failed: %s: %s", error.code().name, error.details())
    finally:
        backend.release()
