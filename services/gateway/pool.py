"""Channels to the replicas of each routing key; they change under load without a request noticing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lab.client.wire import Wire
from lab.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.transport import Security

_CONNECT_TIMEOUT_S = 0.5

_log = logging.getLogger(__name__)


class Backend:
    """The replicas at one set of addresses, taken in turn; gRPC leaves out those that cannot be reached.

    Attributes:
        wire: the way there.
        in_flight: requests under way; whoever sends counts itself in, and out by :meth:`release`.
    """

    def __init__(self, addresses: tuple[str, ...], security: Security | None) -> None:
        self.wire = Wire(addresses, security, peer="model")
        self.in_flight = 0
        self._idle = asyncio.Event()

    def release(self) -> None:
        """A request is done."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def close_when_idle(self) -> None:
        """Closes the channel once nobody uses it; nobody begins to once another backend has taken its place."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
        await self.wire.close()


class Pool:
    """Backends by routing key. Keys with the same replicas share one."""

    def __init__(self, security: Security | None = None) -> None:
        self._security = security
        self._by_key: dict[str, Backend] = {}
        self._by_addresses: dict[tuple[str, ...], Backend] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def backend(self, routing_key: str) -> Backend | None:
        """Where requests with this key go; None if it has no replica."""
        return self._by_key.get(routing_key)

    async def put_in_force(self, endpoints: Mapping[str, tuple[str, ...]]) -> None:
        """Connects to what is new, then swaps, then closes what is no longer used. To be called by one at a time.

        Args:
            endpoints: by routing key, ``ip:port`` of each replica.
        """
        wanted = {key: tuple(sorted(addresses)) for key, addresses in endpoints.items() if addresses}
        new = {
            addresses: Backend(addresses, self._security)
            for addresses in set(wanted.values()) - set(self._by_addresses)
        }
        await asyncio.gather(*(_connect(backend) for backend in new.values()))
        before = self._by_addresses
        self._by_addresses = {addresses: (new.get(addresses) or before[addresses]) for addresses in wanted.values()}
        self._by_key = {key: self._by_addresses[addresses] for key, addresses in wanted.items()}
        for addresses, backend in before.items():
            if addresses not in self._by_addresses:
                self._close(backend)

    def _close(self, backend: Backend) -> None:
        task = asyncio.create_task(backend.close_when_idle())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes everything at once."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(backend.wire.close() for backend in self._by_addresses.values()))


async def _connect(backend: Backend) -> None:
    try:
        await backend.wire.ready(_CONNECT_TIMEOUT_S)
    except UnitError as error:
        # Still what the control plane says; gRPC goes on trying, and a request gets the reason.
        _log.warning("replicas at %s", error)
