"""The headers beside a stream's answer: they come with its first item, or just before the caller's own deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc.aio

    from services.gateway.request import GatewayRequest

_SHARE, _MOST_S = 0.1, 0.5  # of the time until the caller's deadline


class StreamHeaders:
    """Sends a stream's headers, once.

    A caller may end a stream by a timeout that has become longer since. It learns the new one from these headers, so
    they may not wait for a first item that comes too late.

    Args:
        request: of the stream.
        context: the RPC's.

    Attributes:
        begun: whether they are sent, or being sent. From then on no other version may answer.
    """

    def __init__(self, request: GatewayRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._request, self._context = request, context
        self._early: asyncio.Task[None] | None = None
        self.begun = False

    def begin_attempt(self) -> None:
        """Sees that they are sent before the caller's own deadline, if that is before the use case's timeout."""
        if self._early is None and self._request.attempts.hurried:
            self._early = asyncio.create_task(self._send_early())
            self._early.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def send(self) -> None:
        """Sends them if that has not been done; returns once an item may follow."""
        if not self.begun:
            self.close()
            await self._send()
        else:
            await self.settle()

    async def settle(self) -> None:
        """Returns once none are being sent; what the RPC sends next may not overtake them."""
        if self.begun and self._early is not None:
            await self._early

    def close(self) -> None:
        """Sends them no more."""
        if self._early is not None:
            self._early.cancel()
            self._early = None

    async def _send_early(self) -> None:
        remaining_s = self._request.remaining_s()
        await asyncio.sleep(remaining_s - min(_SHARE * remaining_s, _MOST_S))
        await self._send()

    async def _send(self) -> None:
        self.begun = True
        await self._context.send_initial_metadata(self._request.attempts.answer_headers())
