"""Watches the resolver's revision: a new one ends the leases of earlier ones."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc.aio

from lab.errors import UnitError
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc

if TYPE_CHECKING:
    from lab.client.leases import Leases

_RECONNECT_PAUSE_S = 0.1

_log = logging.getLogger(__name__)


class Watch:
    """Follows the resolver's revisions until it is closed. Needs a running event loop.

    Args:
        channel: to the resolver.
        leases: ended by new revisions.

    Attributes:
        holds: whether the stream is open, so that a new revision would be noticed; else leases count as stale.
    """

    def __init__(self, channel: grpc.aio.Channel, leases: Leases) -> None:
        self.holds = False
        self._stub = resolver_pb2_grpc.ResolverStub(channel)
        self._leases = leases
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def ready(self, timeout_s: float) -> None:
        """Returns once the resolver has announced a revision.

        Raises:
            UnitError: it has announced none in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._begun.wait()
        except TimeoutError:
            raise UnitError(f"the resolver has announced no revision within {timeout_s:g} s") from None

    async def close(self) -> None:
        """Closes the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            reason = "closed by the resolver"
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except asyncio.InvalidStateError:
                reason = "the stream ended before a revision could be acknowledged"
            if self.holds:
                self.holds = False
                _log.warning("watch of the resolver lost: %s", reason)
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _follow(self) -> None:
        stream = self._stub.Watch(wait_for_ready=True)
        try:
            await stream.write(resolver_pb2.WatchRequest(revision=self._leases.revision))
            async for response in stream:
                if self.holds:
                    self._leases.advance(response.revision)
                else:
                    self._leases.follow(response.revision)
                    self.holds = True
                    self._begun.set()
                    _log.info("the resolver holds revision %d", response.revision)
                await stream.write(resolver_pb2.WatchRequest(revision=response.revision))
        finally:
            stream.cancel()
