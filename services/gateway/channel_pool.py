"""Ways to replicas that outlast what they were made for: what goes and comes back soon needs no handshake."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.client.rpc_channel import RpcChannel

if TYPE_CHECKING:
    from lab.transport import Security

    Place = tuple[str, tuple[str, ...]]

# A model that moves there and back, or a roll that is taken back, returns within seconds.
_KEPT_S = 10.0


@dataclass(slots=True)
class _Held:
    channel: RpcChannel
    holders: int = 0
    closes: asyncio.TimerHandle | None = None


class ChannelPool:
    """One way to each set of addresses, held by as many as take it.

    Args:
        security: credentials; this process's own by default.
        kept_s: seconds for which one stays open that nobody holds any more.
    """

    def __init__(self, security: Security | None = None, kept_s: float = _KEPT_S) -> None:
        self._security = security
        self._kept_s = kept_s
        self._held: dict[Place, _Held] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, addresses: tuple[str, ...], peer: str) -> RpcChannel:
        """The way there, to one or several ``ip:port``, where this peer must be; to be given back."""
        place = peer, addresses
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Held(RpcChannel(addresses, self._security, peer=peer))
        if held.closes is not None:
            held.closes.cancel()
            held.closes = None
        held.holders += 1
        return held.channel

    def give_back(self, addresses: tuple[str, ...], peer: str) -> None:
        """Whoever took it holds it no longer, and has no request under way."""
        place = peer, addresses
        held = self._held[place]
        held.holders -= 1
        if not held.holders:
            held.closes = asyncio.get_running_loop().call_later(self._kept_s, self._close, place)

    def _close(self, place: Place) -> None:
        task = asyncio.create_task(self._held.pop(place).channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes all of them at once, whoever holds them."""
        held, self._held = list(self._held.values()), {}
        for each in held:
            if each.closes is not None:
                each.closes.cancel()
        await asyncio.gather(*(each.channel.close() for each in held), *self._closing)
