"""A TCP relay that counts the bytes in both directions, and can stall a connection.

``python -m lab.transport.relay LISTEN TARGET``, each ``ip:port``, relays until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

_CHUNK = 256 * 1024
# HTTP/2 acknowledgements (settings, windows, pings) follow an answer within a round trip.
_QUIET_S = 0.03


class Bytes(NamedTuple):
    """Bytes of TCP payload in each direction, without the headers of TCP and IP."""

    to_server: float
    to_client: float

    def since(self, before: Bytes, requests: int) -> Bytes:
        """Bytes per request since ``before``."""
        return Bytes((self.to_server - before.to_server) / requests, (self.to_client - before.to_client) / requests)


@dataclass(slots=True)
class Relay:
    """Relays between clients and a server.

    Attributes:
        address: ``ip:port`` for the client.
    """

    address: str = ""
    _bytes: list[int] = field(default_factory=lambda: [0, 0])  # to the server, to the client
    _open: list[asyncio.Event] = field(default_factory=list)  # of each connection: whether it carries bytes now

    async def stall(self, draw: Random, seconds: float) -> None:
        """Holds all bytes of one connection, drawn at random, for a time, as TCP does after it has lost a segment."""
        if not self._open:
            return
        connection = draw.choice(self._open)
        connection.clear()
        await asyncio.sleep(seconds)
        connection.set()

    async def settled(self) -> Bytes:
        """Bytes so far, once no more arrive."""
        before: list[int] = []
        while before != self._bytes:
            before = self._bytes.copy()
            await asyncio.sleep(_QUIET_S)
        return Bytes(*before)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*_host_and_port(target))
        except OSError:  # the server is down: the relay looks like it to the client
            writer.close()
            return

        carries = asyncio.Event()
        carries.set()
        self._open.append(carries)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: int) -> None:
            while chunk := await source.read(_CHUNK):
                self._bytes[direction] += len(chunk)
                await carries.wait()
                sink.write(chunk)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(reader, far_writer, 0), pump(far_reader, writer, 1), return_exceptions=True)
        finally:
            self._open.remove(carries)
            writer.close()
            far_writer.close()


@asynccontextmanager
async def relay_to(target: str, listen: str = "127.0.0.1:0") -> AsyncIterator[Relay]:
    """Relays to ``target`` while the context lasts; port 0 chooses a free one."""
    relay, in_flight = Relay(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay._carry(reader, writer, target))  # noqa: SLF001 (its own module's)
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)

    host, port = _host_and_port(listen)
    server = await asyncio.start_server(accept, host, port)
    relay.address = f"{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


async def _relay_for_ever(listen: str, target: str) -> None:
    async with relay_to(target, listen):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_relay_for_ever(*sys.argv[1:]))
