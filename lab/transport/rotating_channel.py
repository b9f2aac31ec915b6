"""Channels that outlive their certificate: one with the next takes over, and no call notices.

A gRPC channel keeps the certificate that it was made with. So once there is another, a new channel is opened; when it
is connected new calls go over it, and the old one is closed when those under way on it have ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_LOOK_EVERY_S = 1.0
_CONNECT_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class _Held:
    """A channel, and how many calls are under way on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, call: Any) -> None:
        self._under_way += 1
        self._idle.clear()
        call.add_done_callback(self._end)

    def _end(self, _call: Any) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def close_when_idle(self) -> None:
        await self._idle.wait()
        await self.channel.close()


class _Rpc:
    """A method; each call goes over the channel of the present."""

    __slots__ = ("_held", "_make", "_owner", "_rpc")

    def __init__(self, owner: RotatingChannel, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self._owner, self._make = owner, make
        self._held = owner.held
        self._rpc = make(self._held.channel)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        held = self._owner.held
        if held is not self._held:
            self._held, self._rpc = held, self._make(held.channel)
        call = self._rpc(*arguments, **options)
        held.begin(call)
        return call


class RotatingChannel(grpc.aio.Channel):
    """Needs a running event loop.

    Args:
        open_now: makes a channel with the present certificate.
        version: which certificate that is.

    Attributes:
        held: the channel of the present.
    """

    def __init__(self, open_now: Callable[[], grpc.aio.Channel], version: Callable[[], str]) -> None:
        self._open_now, self._version = open_now, version
        self._seen = version()
        self.held = _Held(open_now())
        self._closing: dict[asyncio.Task[None], _Held] = {}
        self._renewing = asyncio.get_running_loop().create_task(self._renew_for_ever())

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                present = self._version()
                if present != self._seen and await self._renew():
                    self._seen = present
            except Exception as error:  # noqa: BLE001 (whatever is wrong, the channel must outlive it)
                _log.warning("the certificate before serves on: %s", error)

    async def _renew(self) -> bool:
        """Whether a new channel has taken over; it has not if the other side cannot be reached now."""
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
        old, self.held = self.held, _Held(channel)
        task = asyncio.create_task(old.close_when_idle())
        self._closing[task] = old
        task.add_done_callback(self._closing.pop)
        return True

    # -- as any channel ------------------------------------------------------------------------------------------

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """See gRPC; so are the others."""
        return _Rpc(self, lambda channel: channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:  # noqa: D102 (see above)
        return _Rpc(self, lambda channel: channel.unary_stream(*arguments, **options))

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:  # noqa: D102 (see above)
        return _Rpc(self, lambda channel: channel.stream_unary(*arguments, **options))

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:  # noqa: D102 (see above)
        return _Rpc(self, lambda channel: channel.stream_stream(*arguments, **options))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002, D102 (gRPC's)
        return self.held.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:  # noqa: D102 (see above)
        await self.held.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:  # noqa: D102 (see above)
        await self.held.channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes it, and those before it; calls under way may end within ``grace`` seconds."""
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        closing, all_of_them = list(self._closing), [*self._closing.values(), self.held]
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        # Whoever is cancelled before its first step has closed nothing.
        await asyncio.gather(*(each.channel.close(grace) for each in all_of_them))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
