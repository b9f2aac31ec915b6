"""Clients that watch the resolver's revision, and which revision each has acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from models.proto.control.v1 import resolver_pb2

HOLD_S = 1.0
"""For how long a watcher that was heard may use its leases, seconds.

Convergence waits as long for a watcher without a hold, too: if this process was stopped, the watcher went on by its
leases. One that does not acknowledge a revision meanwhile is disconnected, and waited for no longer.
"""

_HOLD = Duration()
_HOLD.FromMilliseconds(round(HOLD_S * 1_000))

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Watcher:
    """One watching client.

    Attributes:
        sent: latest revision announced to it.
        acknowledged: latest revision that it has acknowledged: it holds no lease of an earlier one.
        asks: the time in its request that has no response yet, and when that came.
        holds_until: until then it may use its leases, by this process's monotonic clock; 0 before its first hold.
        ended: why its stream ends, empty if the client left; None while it is open.
        wake: set when one of these may have changed.
    """

    sent: int = 0
    acknowledged: int = 0
    asks: tuple[float, float] | None = None
    holds_until: float = 0.0
    ended: str | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, reason: str = "") -> None:
        """Ends its stream at the next opportunity."""
        self.ended = reason
        self.wake.set()

    def assume_leases_until(self, until: float) -> None:
        """Waits for it until then, though its hold is over: it may not know yet that this process is back."""
        if self.holds_until:
            self.holds_until = max(self.holds_until, until)

    def next_response(self, revision: int) -> resolver_pb2.WatchResponse | None:
        """The next message to it; None if there is none. Its hold is extended only while it is up to date."""
        if self.sent != revision:
            self.sent = revision
            return resolver_pb2.WatchResponse(revision=revision)
        if self.asks is None or self.acknowledged != revision:
            return None
        (sent, came), self.asks = self.asks, None
        self.holds_until = came + HOLD_S
        return resolver_pb2.WatchResponse(revision=revision, sent=sent, hold=_HOLD)


class WatcherLateError(Exception):
    """The watcher did not acknowledge a revision in time; its stream is closed with this reason."""


class Watchers:
    """All connected watchers."""

    def __init__(self) -> None:
        self._revision = 0
        self._connected: set[_Watcher] = set()
        self._gone: set[_Watcher] = set()
        self._progress = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._connected)

    async def announce(self, revision: int) -> None:
        """Sends a revision to all; returns once no watcher can use an earlier one any more.

        A watcher whose stream has ended may not know it yet: it is waited for like one that is silent.
        """
        self._revision, now = revision, time.monotonic()
        for watcher in self._connected:
            watcher.assume_leases_until(now + HOLD_S)
            watcher.wake.set()
        while (left_s := self._holds_until() - time.monotonic()) > 0:
            self._progress.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._progress.wait()
        self._gone.clear()
        for watcher in self._behind():
            # One without a hold has just connected; it has no leases, and its acknowledgement is under way.
            if watcher.holds_until:
                reason = f"revision {revision} not acknowledged within {HOLD_S:g} s"
                _log.warning("watcher disconnected: %s", reason)
                self._connected.discard(watcher)
                watcher.end(reason)

    async def serve(
        self, requests: AsyncIterator[resolver_pb2.WatchRequest]
    ) -> AsyncIterator[resolver_pb2.WatchResponse]:
        """One watcher's stream: yields each revision to announce, and a response to each request.

        Raises:
            WatcherLateError: the watcher acknowledged a revision too late.
        """
        watcher = _Watcher()
        self._connected.add(watcher)
        listening = asyncio.create_task(self._listen(watcher, requests))
        try:
            while watcher.ended is None and not self._closed:
                watcher.wake.clear()
                if response := watcher.next_response(self._revision):
                    yield response
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

    def _holds_until(self) -> float:
        """When no watcher can use leases of an earlier revision any more, by the monotonic clock."""
        gone = [each for each in self._gone if each.acknowledged != self._revision]
        return max((each.holds_until for each in (*self._behind(), *gone)), default=0.0)

    def _leave(self, watcher: _Watcher) -> None:
        self._connected.discard(watcher)
        now = time.monotonic()
        watcher.assume_leases_until(now + HOLD_S)
        self._gone = {each for each in (*self._gone, watcher) if each.holds_until > now}
        self._progress.set()

    async def _listen(self, watcher: _Watcher, requests: AsyncIterator[resolver_pb2.WatchRequest]) -> None:
        async for request in requests:
            # A revision before the first announcement may stem from an earlier process of this resolver.
            if request.revision == watcher.sent:
                watcher.acknowledged = request.revision
                self._progress.set()
            if request.sent:
                watcher.asks = request.sent, time.monotonic()
                watcher.wake.set()
        self._leave(watcher)
        watcher.end()
