"""Ways to replicas that outlast what they were made for: what goes and comes back soon needs no handshake."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.client.wire import Wire

if TYPE_CHECKING:
    from lab.transport import Security

    Place = tuple[str, tuple[str, ...]]

# A model that moves there and back, or a roll that is taken back, returns within seconds.
_KEPT_S = 10.0


@dataclass(slots=True)
class _Held:
    wire: Wire
    holders: int = 0
    closing: asyncio.Task[None] | None = None


class Wires:
    """One way to each set of addresses, held by as many as take it.

    Args:
        security: credentials; this process's own by default.
        kept_s: seconds for which one stays open that nobody holds any more.
    """

    def __init__(self, security: Security | None = None, kept_s: float = _KEPT_S) -> None:
        self._security = security
        self._kept_s = kept_s
        self._held: dict[Place, _Held] = {}

    def take(self, addresses: tuple[str, ...], peer: str) -> Wire:
        """The way there, to one or several ``ip:port``, where this peer must be; to be given back."""
        place = peer, addresses
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Held(Wire(addresses, self._security, peer=peer))
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        held.holders += 1
        return held.wire

    def give_back(self, addresses: tuple[str, ...], peer: str) -> None:
        """Whoever took it holds it no longer, and has no request under way."""
        place = peer, addresses
        held = self._held[place]
        held.holders -= 1
        if not held.holders:
            held.closing = asyncio.create_task(self._close_later(place, held.wire))

    async def _close_later(self, place: Place, wire: Wire) -> None:
        await asyncio.sleep(self._kept_s)
        del self._held[place]
        await wire.close()

    async def close(self) -> None:
        """Closes all of them at once, whoever holds them."""
        held, self._held = list(self._held.values()), {}
        for each in held:
            if each.closing is not None:
                each.closing.cancel()
        await asyncio.gather(*(each.wire.close() for each in held))
