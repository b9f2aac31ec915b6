"""Relays against real sockets. Lower bounds are exact, as no byte leaves early; upper ones are of the fastest."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from lab.transport import relay as relays
from lab.transport.relay import Link, Relay, relay_to

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_MB = 1_000_000


@asynccontextmanager
async def through(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]], *links: Link
) -> AsyncIterator[tuple[Relay, Streams]]:
    """A relay with these links before a server, and a connection through it."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with relay_to(target, links=(links[0], links[-1]), seed=1) as relay:
        host, port = relay.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=16 * _MB)
        try:
            yield relay, (reader, writer)
        finally:
            writer.close()
    server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_MB):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def _round_trips_s(streams: Streams, number: int) -> list[float]:
    reader, writer = streams
    found = []
    for _ in range(number):
        began = time.monotonic()
        writer.write(b"ping")
        await reader.readexactly(4)
        found.append(time.monotonic() - began)
    return found


@pytest.mark.parametrize(("there_ms", "back_ms"), [(0.25, 0.25), (2, 8), (10, 0)])
async def test_a_round_trip_takes_both_delays_and_the_relays_own_error(there_ms: float, back_ms: float) -> None:
    delays_s = (there_ms + back_ms) / 1e3

    async with through(echo, Link(), Link()) as (_, streams):
        without = await _round_trips_s(streams, 50)
    async with through(echo, Link(there_ms / 1e3), Link(back_ms / 1e3)) as (relay, streams):
        found = await _round_trips_s(streams, 50)
        late = relay.lateness

    assert min(found) >= delays_s
    assert min(found) <= delays_s + min(without) + 2 * late.max_s + 0.1 * delays_s
    assert late.pieces == 100
    assert 0 <= late.mean_s <= late.max_s


async def test_without_a_delay_nothing_waits() -> None:
    async with through(echo, Link()) as (relay, streams):
        await _round_trips_s(streams, 50)
        assert relay.held_bytes == 0
        assert relay.lateness.pieces == 100


async def test_a_changed_delay_holds_from_then_on() -> None:
    async with through(echo, Link()) as (relay, streams):
        before = await _round_trips_s(streams, 10)
        relay.links = (Link(0.02), Link(0.02))
        slower = await _round_trips_s(streams, 5)
        relay.links = (Link(), Link())
        after = await _round_trips_s(streams, 10)

    assert min(slower) >= 0.04
    assert max(min(before), min(after)) < 0.04


async def test_jitter_adds_and_keeps_the_order() -> None:
    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4 * 200))
        writer.close()

    async with through(collect, Link(0.001, jitter_s=0.005), Link()) as (_, (reader, writer)):
        sent = [number.to_bytes(4, "big") for number in range(200)]
        for each in sent:
            writer.write(each)
            await asyncio.sleep(0)  # a segment each
        assert await reader.readexactly(800) == b"".join(sent)


async def test_bandwidth_is_shared_by_all_connections() -> None:
    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(_MB)
        writer.write(b"done")
        writer.close()

    async with through(sink, Link(bytes_per_s=10 * _MB), Link()) as (relay, first):
        host, port = relay.address.split(":")
        second = await asyncio.open_connection(host, int(port))
        began = time.monotonic()
        for _, writer in (first, second):
            writer.write(bytes(_MB))
        for reader, _ in (first, second):
            assert await reader.read() == b"done"
        took_s = time.monotonic() - began
        second[1].close()

    assert took_s >= 2 / 10


async def test_a_receiver_that_stalls_bounds_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HELD_BYTES", 2 * _MB)
    reads = asyncio.Event()

    async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        while await reader.read(_MB):
            pass
        writer.write(b"all")
        writer.close()

    async with through(stalled, Link(0.001), Link()) as (relay, (reader, writer)):
        writer.transport.set_write_buffer_limits(high=64 * 1024)
        for _ in range(400):
            writer.write(bytes(100_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await writer.drain()
        held = relay.held_bytes
        reads.set()
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b"all"
        assert relay.bytes.to_server == 40 * _MB

    assert 0 < held <= 2 * _MB


async def test_a_client_may_close_its_half_and_still_get_the_answer() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(asked[::-1])
        writer.close()

    async with through(answer_at_the_end, Link(0.005), Link(0.005)) as (_, (reader, writer)):
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read() == b"cba"


async def test_a_reset_reaches_the_other_end_after_what_was_sent() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"last")
        await writer.drain()
        await reader.readexactly(4)
        plain = writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with through(reset, Link(0.002)) as (relay, (reader, writer)):
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"last"
        writer.write(b"more")
        with pytest.raises(ConnectionResetError):
            assert await reader.read() == b"no end"
        while relay.connections:
            await asyncio.sleep(0)


async def test_a_server_that_is_down_looks_down() -> None:
    async with relay_to("127.0.0.1:1") as relay:
        host, port = relay.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()


def test_it_does_the_same_on_the_loop_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_round_trip_takes_both_delays_and_the_relays_own_error(2, 8))
        runner.run(test_a_client_may_close_its_half_and_still_get_the_answer())
        runner.run(test_a_receiver_that_stalls_bounds_what_is_held(monkeypatch))
        runner.run(test_a_reset_reaches_the_other_end_after_what_was_sent())
