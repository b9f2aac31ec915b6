"""Channels that survive the rotation of their certificate without failing a call.

A gRPC channel keeps the certificate that it was opened with. When the certificate is replaced, a new channel is opened;
once it is connected new calls use it, and the old one is closed when its calls in flight have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partialmethod
from typing import Any, Self

import grpc.aio

from lab.transport.call_tracking import when_done

_POLL_S = 1.0
_CONNECT_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class _Counted:
    """A channel, and its number of calls in flight."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, call: Any) -> None:
        self._in_flight += 1
        self._idle.clear()
        when_done(call, self._end)

    def _end(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def close_when_idle(self) -> None:
        await self._idle.wait()
        await self.channel.close()


class _Rpc:
    """An RPC; each call uses the current channel."""

    __slots__ = ("_channel", "_make", "_owner", "_rpc")

    def __init__(self, owner: RotatingChannel, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self._owner, self._make = owner, make
        self._channel = owner.current
        self._rpc = make(self._channel.channel)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        current = self._owner.current
        if current is not self._channel:
            self._channel, self._rpc = current, self._make(current.channel)
        call = self._rpc(*arguments, **options)
        current.begin(call)
        return call


class RotatingChannel(grpc.aio.Channel):
    """Opens a new channel whenever the certificate's version changes. Needs a running event loop.

    Args:
        open_now: opens a channel with the current certificate.
        version: of the current certificate.

    Attributes:
        current: channel that new calls use.
    """

    def __init__(self, open_now: Callable[[], grpc.aio.Channel], version: Callable[[], str]) -> None:
        self._open_now, self._version = open_now, version
        self._seen = version()
        self.current = _Counted(open_now())
        self._closing: dict[asyncio.Task[None], _Counted] = {}
        self._rotating = asyncio.get_running_loop().create_task(self._rotate_for_ever())

    async def _rotate_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                version = self._version()
                if version != self._seen and await self._rotate():
                    self._seen = version
            except Exception as error:  # noqa: BLE001 (no error may end the rotation)
                _log.warning("the previous certificate stays in use: %s", error)

    async def _rotate(self) -> bool:
        """Switches to a new channel; returns False if it cannot be connected now."""
        channel = self._open_now()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await channel.channel_ready()
        except TimeoutError:
            await channel.close()
            return False
        except asyncio.CancelledError:
            await channel.close()
            raise
        old, self.current = self.current, _Counted(channel)
        task = asyncio.create_task(old.close_when_idle())
        self._closing[task] = old
        task.add_done_callback(self._closing.pop)
        return True

    # -- gRPC's interface ----------------------------------------------------------------------------------------

    def _rpc(self, kind: str, *arguments: Any, **options: Any) -> Any:
        return _Rpc(self, lambda channel: getattr(channel, kind)(*arguments, **options))

    unary_unary = partialmethod(_rpc, "unary_unary")
    unary_stream = partialmethod(_rpc, "unary_stream")
    stream_unary = partialmethod(_rpc, "stream_unary")
    stream_stream = partialmethod(_rpc, "stream_stream")

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002, D102 (gRPC's)
        return self.current.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:  # noqa: D102 (see above)
        await self.current.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:  # noqa: D102 (see above)
        await self.current.channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes the current channel and the previous ones; calls in flight may end within ``grace`` seconds."""
        self._rotating.cancel()
        await asyncio.gather(self._rotating, return_exceptions=True)
        closing, all_of_them = list(self._closing), [*self._closing.values(), self.current]
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        # A task that is cancelled before its first step has not closed its channel.
        await asyncio.gather(*(each.channel.close(grace) for each in all_of_them))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
