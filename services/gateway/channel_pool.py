"""Channels to replicas, kept open for 10 s after their last use: a replica that comes back needs no new handshake."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lab.client.rpc_channel import RpcChannel

if TYPE_CHECKING:
    import grpc

    from services.gateway.picked_for import PickedFor

    Key = tuple[str, tuple[str, ...]]

# A model that moves there and back, or a roll that is rolled back, returns within seconds.
_KEPT_S = 10.0


@dataclass(slots=True)
class _Pooled:
    channel: RpcChannel
    users: int = 0
    closes: asyncio.TimerHandle | None = None


class ChannelPool:
    """One channel to each set of addresses, shared by all who take it.

    Args:
        kept_s: for how long an unused channel stays open, seconds.
    """

    def __init__(self, kept_s: float = _KEPT_S) -> None:
        self._kept_s = kept_s
        self._pooled: dict[Key, _Pooled] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, addresses: tuple[str, ...], peer: str) -> RpcChannel:
        """The channel to one or several ``ip:port`` that must prove to be ``peer``; to be given back."""
        key = peer, addresses
        pooled = self._pooled.get(key)
        if pooled is None:
            pooled = self._pooled[key] = _Pooled(RpcChannel(addresses, peer=peer))
        if pooled.closes is not None:
            pooled.closes.cancel()
            pooled.closes = None
        pooled.users += 1
        return pooled.channel

    def give_back(self, addresses: tuple[str, ...], peer: str) -> None:
        """Ends one use of the channel, on which the user has no request in flight any more."""
        key = peer, addresses
        pooled = self._pooled[key]
        pooled.users -= 1
        if not pooled.users:
            pooled.closes = asyncio.get_running_loop().call_later(self._kept_s, self._close, key)

    def _close(self, key: Key) -> None:
        task = asyncio.create_task(self._pooled.pop(key).channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes all channels at once, used or not."""
        pooled, self._pooled = list(self._pooled.values()), {}
        for each in pooled:
            if each.closes is not None:
                each.closes.cancel()
        await asyncio.gather(*(each.channel.close() for each in pooled), *self._closing)


class Connection:
    """A use of a channel; counts the attempts in flight on it.

    Attributes:
        channel: to one or several replicas.
        peer: identity that they must prove.
        in_flight: attempts in flight; :meth:`release` counts them out.
    """

    def __init__(self, addresses: tuple[str, ...], channels: ChannelPool, peer: str) -> None:
        self.channel = channels.take(addresses, peer)
        self.peer = peer
        self.in_flight = 0
        self._give_back = partial(channels.give_back, addresses, peer)
        self._idle = asyncio.Event()

    def release(self, code: grpc.StatusCode | None = None, request: PickedFor | None = None) -> None:
        """Counts an attempt of a request out, with its status; None if it was cancelled."""
        del code, request
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def leave(self) -> None:
        """Gives the channel back once no attempt is in flight; called when no further one can begin."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
        self._give_back()
