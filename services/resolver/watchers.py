"""Clients that watch the resolver's revision, and which revision each has acknowledged."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A watcher that takes longer to acknowledge a revision is disconnected: it then treats its leases as stale, and
# convergence does not wait for it.
_ANSWER_WITHIN_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Watcher:
    """One watching client.

    Attributes:
        sent: latest revision announced to it.
        acknowledged: latest revision that it has acknowledged: it holds no lease of an earlier one.
        ended: why its stream ends, empty if the client left; None while it is open.
        wake: set when one of these may have changed.
    """

    sent: int = 0
    acknowledged: int = 0
    ended: str | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, reason: str = "") -> None:
        """Ends its stream at the next opportunity."""
        self.ended = reason
        self.wake.set()


class WatcherLateError(Exception):
    """The watcher did not acknowledge a revision in time; its stream is closed with this reason."""


class Watchers:
    """All connected watchers."""

    def __init__(self) -> None:
        self._revision = 0
        self._connected: set[_Watcher] = set()
        self._progress = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._connected)

    async def announce(self, revision: int) -> None:
        """Sends a revision to all; returns once no watcher can use an earlier one any more."""
        self._revision = revision
        for watcher in self._connected:
            watcher.wake.set()
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                while self._behind():
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            for watcher in self._behind():
                reason = f"revision {revision} not acknowledged within {_ANSWER_WITHIN_S:g} s"
                _log.warning("watcher disconnected: %s", reason)
                self._leave(watcher)
                watcher.end(reason)

    async def serve(
        self, requests: AsyncIterator[resolver_pb2.WatchRequest]
    ) -> AsyncIterator[resolver_pb2.WatchResponse]:
        """One watcher's stream: yields each revision to announce.

        Raises:
            WatcherLateError: the watcher acknowledged a revision too late.
        """
        watcher = _Watcher()
        self._connected.add(watcher)
        listening = asyncio.create_task(self._listen(watcher, requests))
        try:
            while watcher.ended is None and not self._closed:
                watcher.wake.clear()
                if watcher.sent != self._revision:
                    watcher.sent = self._revision
                    yield resolver_pb2.WatchResponse(revision=watcher.sent)
                else:
                    await watcher.wake.wait()
        finally:
            listening.cancel()
            self._leave(watcher)
        if watcher.ended:
            raise WatcherLateError(watcher.ended)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for watcher in self._connected:
            watcher.wake.set()

    def _behind(self) -> list[_Watcher]:
        return [each for each in self._connected if each.acknowledged != self._revision]

    def _leave(self, watcher: _Watcher) -> None:
        self._connected.discard(watcher)
        self._progress.set()

    async def _listen(self, watcher: _Watcher, requests: AsyncIterator[resolver_pb2.WatchRequest]) -> None:
        async for request in requests:
            # A revision before the first announcement may stem from an earlier process of this resolver.
            if request.revision == watcher.sent:
                watcher.acknowledged = request.revision
                self._progress.set()
        self._leave(watcher)
        watcher.end()
