"""A relay that counts what passes: every byte of a TCP connection's two streams, whatever protocol they speak.

``python -m lab.transport.relay LISTEN TARGET``, each ``ip:port``, relays until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK = 256 * 1024
# Acknowledgements of settings, windows and pings follow an answer within a round trip.
_QUIET_S = 0.03


class Bytes(NamedTuple):
    """Bytes of TCP payload: what the two ends wrote, not counting TCP's and IP's own headers."""

    to_server: float
    to_client: float

    def since(self, before: Bytes, requests: int) -> Bytes:
        """How many a request, of those since then."""
        return Bytes((self.to_server - before.to_server) / requests, (self.to_client - before.to_client) / requests)


@dataclass(slots=True)
class Relay:
    """Stands between a client and a server.

    Attributes:
        address: ``ip:port`` for the client.
    """

    address: str = ""
    _to_server: int = 0
    _to_client: int = 0

    async def settled(self) -> Bytes:
        """What has passed, once nothing does any more."""
        before = (-1, -1)
        while before != (self._to_server, self._to_client):
            before = self._to_server, self._to_client
            await asyncio.sleep(_QUIET_S)
        return Bytes(*before)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*_host_and_port(target))
        except OSError:  # nobody is there: to the client it looks as if the relay were not
            writer.close()
            return

        async def upstream() -> None:
            while chunk := await reader.read(_CHUNK):
                self._to_server += len(chunk)
                far_writer.write(chunk)
                await far_writer.drain()
            far_writer.close()

        async def downstream() -> None:
            while chunk := await far_reader.read(_CHUNK):
                self._to_client += len(chunk)
                writer.write(chunk)
                await writer.drain()
            writer.close()

        try:
            await asyncio.gather(upstream(), downstream(), return_exceptions=True)
        finally:
            writer.close()
            far_writer.close()


@asynccontextmanager
async def relay_to(target: str, listen: str = "127.0.0.1:0") -> AsyncIterator[Relay]:
    """A relay to ``ip:port``, at a port of its own choice if it is 0."""
    relay, under_way = Relay(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay._carry(reader, writer, target))  # noqa: SLF001 (its own module's)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    host, port = _host_and_port(listen)
    server = await asyncio.start_server(accept, host, port)
    relay.address = f"{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


async def _relay_for_ever(listen: str, target: str) -> None:
    async with relay_to(target, listen):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_relay_for_ever(*sys.argv[1:]))
