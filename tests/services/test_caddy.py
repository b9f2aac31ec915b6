"""Caddy while its configuration is replaced."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing

import h2.config
import h2.connection
import hpack
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, SettingsFrame

from lab.routing.keys import HEADER
from tests.parts import ControlPlane, update
from tests.proxies import proxy_up
from tests.waiting import eventually

CHANGES, CLIENTS = 50, 6
KEY = "rows.v1"
FRAME_HEAD_BYTES = 9


async def outcome(listen: str) -> str:
    """How a request ends on its own connection, sent once the server's settings are here, as gRPC does."""
    host, _, port = listen.rpartition(":")
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        with closing(writer):
            writer.write(client.data_to_send())
            while True:
                frame = await next_frame(reader)
                if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                    writer.write(request(client))
                elif isinstance(frame, HeadersFrame):
                    return "answered"
                elif isinstance(frame, GoAwayFrame) and frame.last_stream_id == 0:
                    return "not processed"  # RFC 9113, 6.8: the client may send it again elsewhere
    except (OSError, EOFError) as error:
        return f"lost: {error!r}"


def request(client: h2.connection.H2Connection) -> bytes:
    """A whole request."""
    pseudo = {":method": "POST", ":scheme": "http", ":authority": "lab", ":path": "/lab.Rows/Get"}
    client.send_headers(1, [*(pseudo | {"content-type": "application/grpc", HEADER: KEY}).items()])
    client.send_data(1, bytes(5), end_stream=True)
    return client.data_to_send()


async def next_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame, whose headers stay as they are."""
    frame, size = Frame.parse_frame_header(memoryview(await reader.readexactly(FRAME_HEAD_BYTES)))
    frame.parse_body(memoryview(await reader.readexactly(size)))
    return frame


async def follow(control_plane: ControlPlane, number: int) -> None:
    """Moves the key, and returns once Caddy follows. Nobody listens where it is, so Caddy answers by itself."""
    await control_plane.put_in_force(update(number + 1, endpoints={KEY: [f"127.0.0.1:{number + 1}"]}), "caddy")


async def test_fifty_changes_lose_no_new_connection(control_plane: ControlPlane) -> None:
    """Each request is answered, or a GOAWAY says that it was not processed."""
    seen: Counter[str] = Counter()

    async def connect_again_and_again(listen: str) -> None:
        while True:
            seen[await outcome(listen)] += 1

    async with proxy_up("gateway-caddy", control_plane.address) as listen, asyncio.TaskGroup() as group:
        await follow(control_plane, 0)
        clients = [group.create_task(connect_again_and_again(listen)) for _ in range(CLIENTS)]
        for number in range(1, CHANGES + 1):
            await follow(control_plane, number)
        await eventually("requests between the changes", lambda: seen.total() >= CHANGES * CLIENTS)
        for each in clients:
            each.cancel()

    assert seen.keys() <= {"answered", "not processed"}, seen
    assert seen["answered"] > 0


async def test_a_connection_that_a_change_overtakes_follows_it(control_plane: ControlPlane) -> None:
    """It is open when the change comes, but not yet a connection of HTTP/2, so no GOAWAY reaches it."""
    async with proxy_up("gateway-caddy", control_plane.address) as listen:
        await follow(control_plane, 0)
        host, _, port = listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with closing(writer):
            assert await outcome(listen) == "answered"  # so Caddy has accepted the one before

            await control_plane.put_in_force(update(2), "caddy")

            assert await answer(reader, writer) == f"routing key '{KEY}': no such key"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The message of a request on a connection on which nothing has been sent, if it says GOAWAY, too."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    writer.write(client.data_to_send() + request(client))
    headers: dict[bytes, bytes] = {}
    says_goaway = False
    async with asyncio.timeout(10):
        while not (headers and says_goaway):
            frame = await next_frame(reader)
            says_goaway |= isinstance(frame, GoAwayFrame)
            if isinstance(frame, HeadersFrame):
                headers = dict(hpack.Decoder().decode(frame.data, raw=True))
    return headers[b"grpc-message"].decode()
