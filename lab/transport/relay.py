"""A TCP relay: counts the bytes in both directions, delays them as a link would, and can stall a connection.

Each direction is a queue of pieces with due times. A link's bandwidth is shared by all connections. Memory is bounded:
a relay that holds much reads no more, so TCP's own flow control reaches the sender.

What it cannot show: it accepts a connection at once, so a handshake of TCP takes no time, and segments are never lost.

``python -m lab.transport.relay LISTEN TARGET``, each ``ip:port``, relays until it is killed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple, cast

from lab.transport.precise_timer import NS, new_precise_timer

HELD_BYTES = 64 * 1024 * 1024
"""Most that a relay holds, all connections and directions together; a piece more for each of them."""

_LEAST_HELD = 128 * 1024  # by each direction, however many there are
_MAX_CONNECTIONS = 1_024
_SINK_BYTES = 256 * 1024
_NEVER_NS = 2**62
_RESET = struct.pack("ii", 1, 0)  # on closing, send a reset
_TURNS_TO_CLOSE = 8  # of the event loop, in which ends of this process see that they are closed
# HTTP/2 acknowledgements (settings, windows, pings) follow an answer within a round trip.
_QUIET_S = 0.03


class Bytes(NamedTuple):
    """Bytes of TCP payload in each direction, without the headers of TCP and IP."""

    to_server: float
    to_client: float

    def since(self, before: Bytes, requests: int) -> Bytes:
        """Bytes per request since ``before``."""
        return Bytes((self.to_server - before.to_server) / requests, (self.to_client - before.to_client) / requests)


@dataclass(frozen=True, slots=True)
class Link:
    """What a relay does to the bytes of one direction.

    Attributes:
        delay_s: from the arrival of a byte to its departure, seconds.
        jitter_s: each piece waits for up to this much longer, evenly drawn; pieces of a connection keep their order.
        bytes_per_s: bandwidth of all connections together; 0 for no limit.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0


class Lateness(NamedTuple):
    """A relay's own error: how long after their due times it has sent pieces.

    Attributes:
        pieces: number of pieces.
        mean_s: mean, seconds.
        max_s: greatest, seconds.
    """

    pieces: int
    mean_s: float
    max_s: float


class Relay:
    """Relays between clients and a server.

    Attributes:
        address: ``ip:port`` for the client.
    """

    def __init__(self, traffic: _Traffic, address: str) -> None:
        self._traffic, self.address = traffic, address

    @property
    def links(self) -> tuple[Link, Link]:
        """What it does to bytes to the server, and to those to the client."""
        return self._traffic.links

    @links.setter
    def links(self, links: tuple[Link, Link]) -> None:
        """Holds for the bytes that arrive from now on."""
        self._traffic.links = links

    @property
    def bytes(self) -> Bytes:
        """Bytes so far."""
        return Bytes(*self._traffic.bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes that wait now."""
        return sum(each.held for connection in self._traffic.open for each in connection.directions)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._traffic.open)

    @property
    def lateness(self) -> Lateness:
        """Its own error so far."""
        pieces, total, most = self._traffic.late_ns
        return Lateness(pieces, total / max(pieces, 1) / NS, most / NS)

    async def stall(self, draw: Random, seconds: float) -> None:
        """Holds all bytes of one connection, drawn at random, for a time, as TCP does after it has lost a segment."""
        if not self._traffic.open:
            return
        connection = draw.choice(self._traffic.open)
        connection.carries = False
        await asyncio.sleep(seconds)
        connection.carries = True
        for direction in connection.directions:
            direction.flush()

    async def settled(self) -> Bytes:
        """Bytes so far, once no more arrive."""
        before = None
        while before != self.bytes:
            before = self.bytes
            await asyncio.sleep(_QUIET_S)
        return before


@dataclass(slots=True)
class _Traffic:
    """What all connections of a relay share.

    Attributes:
        bytes: so far, to the server and to the client.
        free_ns: when each link has carried what came before.
        late_ns: pieces, sum and maximum of their lateness.
    """

    target: str
    links: tuple[Link, Link]
    draw: Random
    schedule: _Schedule
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    free_ns: list[int] = field(default_factory=lambda: [0, 0])
    late_ns: list[int] = field(default_factory=lambda: [0, 0, 0])
    open: list[_Connection] = field(default_factory=list)

    def was_late(self, late_ns: int) -> None:
        pieces, total, most = self.late_ns
        self.late_ns = [pieces + 1, total + late_ns, max(most, late_ns)]


class _Schedule:
    """Flushes directions when their first piece is due: one timer for all of them."""

    def __init__(self) -> None:
        self._timer = new_precise_timer(asyncio.get_running_loop(), self._flush_due)
        self._due: list[tuple[int, int, _Direction]] = []
        self._number, self._closed = 0, False

    def add(self, at_ns: int, direction: _Direction) -> None:
        if self._closed:
            return
        self._number += 1
        heappush(self._due, (at_ns, self._number, direction))
        if self._due[0][0] == at_ns:
            self._timer.set(at_ns)

    def close(self) -> None:
        self._closed = True
        self._timer.close()

    def _flush_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._due and self._due[0][0] <= now_ns:
            heappop(self._due)[2].due()
        self._timer.set(self._due[0][0] if self._due else _NEVER_NS)


class _Direction:
    """The bytes of a connection in one direction, from end ``number`` to the other."""

    def __init__(self, traffic: _Traffic, connection: _Connection, number: int) -> None:
        self._traffic, self._connection, self._number = traffic, connection, number
        self._queue: deque[tuple[int, bytes | None]] = deque()  # due times and pieces; see take
        self._last_ns = 0  # no piece is due before the one ahead of it
        self._scheduled = False
        self._reads = True
        self.writes = True
        self.held = 0

    def take(self, piece: bytes | None) -> None:
        """Takes bytes from the source; an empty piece is their end, None a reset."""
        traffic, link, size = self._traffic, self._traffic.links[self._number], len(piece or b"")
        now_ns = due_ns = time.monotonic_ns()
        if link.bytes_per_s:
            due_ns = max(now_ns, traffic.free_ns[self._number]) + round(size * NS / link.bytes_per_s)
            traffic.free_ns[self._number] = due_ns
        due_ns += round((link.delay_s + (traffic.draw.random() * link.jitter_s if link.jitter_s else 0.0)) * NS)
        self._last_ns = due_ns = max(due_ns, self._last_ns)
        traffic.bytes[self._number] += size
        self._queue.append((due_ns, piece))
        self.held += size
        source = self._connection.ends[self._number]
        if self._reads and source is not None and self.held > self._most():
            self._reads = False
            source.pause_reading()
        self.flush()

    def due(self) -> None:
        """The first piece is due."""
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Sends the pieces that are due, as far as the sink takes them."""
        while self._queue and self.writes and self._connection.carries:
            due_ns, piece = self._queue[0]
            if (late_ns := time.monotonic_ns() - due_ns) < 0:
                if not self._scheduled:
                    self._scheduled = True
                    self._traffic.schedule.add(due_ns, self)
                break
            self._queue.popleft()
            self.held -= len(piece or b"")
            self._traffic.was_late(late_ns)
            self._connection.send(self._number, piece)
        source = self._connection.ends[self._number]
        if not self._reads and source is not None and not source.is_closing() and self.held <= self._most() // 2:
            self._reads = True
            source.resume_reading()

    def _most(self) -> int:
        return max(_LEAST_HELD, HELD_BYTES // (2 * max(1, len(self._traffic.open))))


class _Connection:
    """A connection of a client, and that to the server which carries its bytes on."""

    def __init__(self, traffic: _Traffic) -> None:
        self.traffic = traffic
        self.ends: list[asyncio.Transport | None] = [None, None]  # to the client, to the server
        self.directions = (_Direction(traffic, self, 0), _Direction(traffic, self, 1))
        self.carries = True
        self._ended = [False, False]  # whether each direction has carried its end

    def send(self, number: int, piece: bytes | None) -> None:
        """Passes a piece of a direction on: bytes, the end of that half, or a reset."""
        sink = self.ends[1 - number]
        if sink is None or sink.is_closing():
            return
        if piece:
            sink.write(piece)
        elif piece is None:
            plain = sink.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sink.abort()
        else:
            self._ended[number] = True
            if not all(self._ended):
                sink.write_eof()
                return
            for each in self.ends:
                if each is not None:
                    each.close()

    def lost(self, number: int) -> None:
        """An end is gone. What is on its way from there arrives; what is on its way there has no sink."""
        self.ends[number] = None
        towards = self.directions[1 - number]
        towards.writes = True
        towards.flush()
        self.directions[number].take(None)
        if self.ends == [None, None] and self in self.traffic.open:
            self.traffic.open.remove(self)


class _End(asyncio.Protocol):
    """One end of a connection: 0 is the client's, 1 the server's."""

    def __init__(self, connection: _Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # of TCP; uvloop's has another class
        transport.set_write_buffer_limits(high=_SINK_BYTES)
        if (plain := transport.get_extra_info("socket")) is not None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.ends[self._number] = transport
        if self._number == 0:
            traffic = self._connection.traffic
            if len(traffic.open) >= _MAX_CONNECTIONS:
                transport.abort()
                return
            traffic.open.append(self._connection)
            self._connection.directions[0].writes = False  # until there is a sink; uvloop may read before
            self._opening = asyncio.create_task(self._open(transport))

    async def _open(self, client: asyncio.Transport) -> None:
        connection = self._connection
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _End(connection, 1), *_host_and_port(connection.traffic.target))
        except OSError:  # the server is down: the relay looks like it to the client
            client.close()
            return
        if client.is_closing():
            if (server := connection.ends[1]) is not None:
                server.close()
            return
        connection.directions[0].writes = True
        connection.directions[0].flush()

    def data_received(self, data: bytes) -> None:
        self._connection.directions[self._number].take(data)

    def eof_received(self) -> bool:
        self._connection.directions[self._number].take(b"")
        return True  # the other half stays open

    def pause_writing(self) -> None:
        self._connection.directions[1 - self._number].writes = False

    def resume_writing(self) -> None:
        direction = self._connection.directions[1 - self._number]
        direction.writes = True
        direction.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connection.lost(self._number)


@asynccontextmanager
async def relay_to(
    target: str,
    listen: str = "127.0.0.1:0",
    *,
    links: tuple[Link, Link] = (Link(), Link()),
    seed: int | None = None,
) -> AsyncIterator[Relay]:
    """Relays to ``target`` while the context lasts.

    Args:
        target: ``ip:port`` of the server.
        listen: ``ip:port`` for clients; port 0 chooses a free one.
        links: what it does to the bytes to the server, and to those to the client.
        seed: of the jitter.
    """
    schedule = _Schedule()
    traffic = _Traffic(target, links, Random(seed), schedule)  # noqa: S311 (no secret)
    host, port = _host_and_port(listen)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _End(_Connection(traffic), 0), host, port)
    try:
        yield Relay(traffic, f"{host}:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        for end in [end for connection in traffic.open for end in connection.ends if end is not None]:
            end.close()
        for _ in range(_TURNS_TO_CLOSE):
            await asyncio.sleep(0)
        schedule.close()


def _host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


async def _relay_for_ever(listen: str, target: str) -> None:
    async with relay_to(target, listen):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_relay_for_ever(*sys.argv[1:]))
