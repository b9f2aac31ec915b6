"""Sends copies of requests to shadows, where no Envoy does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio

from lab.routing.headers import REQUEST_ID
from lab.routing.keys import COPY, COPY_HEADER, HEADER

if TYPE_CHECKING:
    from lab.client.rpc_channel import Metadata, RpcChannel
    from models.apis import Method

# Envoy's limit. Copies to a shadow that has stopped reading hold their whole payloads.
LIMIT = 128
GRACE_S = 2.0
"""For copies in flight when the sender closes, seconds: no other process would send them."""
_TIMEOUT_S = 10.0
_LOG_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class ShadowSender:
    """Sends copies; no request waits for one.

    Args:
        limit: copies in flight at once; more are dropped.

    Attributes:
        sent: number of copies sent, answered or not.
        dropped: number of copies not sent.
        dropped_at_bound: how many of these for the limit.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.sent = self.dropped = self.dropped_at_bound = 0
        self._limit = limit
        self._in_flight: set[asyncio.Task[None]] = set()
        self._log_not_before = 0.0

    def send(
        self,
        channel: RpcChannel,
        method: Method,
        payload: bytes,
        *,
        routing_key: str,
        request_id: str,
        done: Callable[[], None] = lambda: None,
    ) -> bool:
        """Sends a copy to the version with this key, once the request itself is on its way.

        Args:
            channel: to the shadow, or to a proxy that routes to it.
            method: of the request.
            payload: of the request.
            routing_key: of the shadow.
            request_id: of the request.
            done: called when the copy is answered or has failed.

        Returns:
            False if the copy is dropped, because too many are in flight.
        """
        if len(self._in_flight) >= self._limit:
            self.dropped_at_bound += 1
            self.drop(f"{self._limit} copies are in flight already")
            return False
        self.sent += 1
        metadata = ((HEADER, routing_key), (COPY_HEADER, COPY), (REQUEST_ID, request_id))
        task = asyncio.create_task(_send(channel, method, payload, metadata))
        self._in_flight.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._in_flight.discard(task)
            done()

        task.add_done_callback(ended)
        return True

    async def settle(self, within_s: float = GRACE_S) -> None:
        """Returns once no copy is in flight, or after ``within_s`` seconds; called before the channel is closed."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=within_s)

    def drop(self, reason: str) -> None:
        """Counts a copy that cannot be sent; logs the reason once a second at most."""
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now >= self._log_not_before:
            self._log_not_before = now + _LOG_EVERY_S
            _log.warning("shadow copy dropped (%d so far): %s", self.dropped, reason)


async def _send(channel: RpcChannel, method: Method, payload: bytes, metadata: Metadata) -> None:
    try:
        await channel.send_and_discard(method, payload, timeout_s=_TIMEOUT_S, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        _log.debug("shadow copy failed: %s: %s", error.code().name, error.details())
