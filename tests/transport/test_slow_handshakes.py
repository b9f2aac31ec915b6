"""On a busy machine the first bytes of a new connection are late; who asks once does not fail for it."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.transport import listen, new_server, open_blocking_channel

# More than an attempt to connect takes where it is repeated anyway.
LATE_S = 1.5


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(64 * 1024):
        writer.write(chunk)
        await writer.drain()
    writer.close()


async def test_a_question_outlasts_a_connection_whose_first_bytes_are_late() -> None:
    server, _ = new_server()
    port = listen(server, "127.0.0.1:0")
    await server.start()
    waited: list[float] = []  # seconds, of each connection

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came = time.monotonic()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(LATE_S)
        waited.append(time.monotonic() - came)
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer), return_exceptions=True)

    relay = await asyncio.start_server(late, "127.0.0.1", 0)
    address = f"127.0.0.1:{relay.sockets[0].getsockname()[1]}"

    def ask() -> health_pb2.HealthCheckResponse:
        with open_blocking_channel(address) as channel:
            return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)

    try:
        async with relay:
            assert (await asyncio.to_thread(ask)).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(None)
    assert len(waited) == 1  # at the first attempt
    assert waited[0] >= LATE_S


async def test_where_nobody_listens_it_fails_at_once() -> None:
    async with await asyncio.start_server(_carry, "127.0.0.1", 0) as gone:
        port = gone.sockets[0].getsockname()[1]
    with open_blocking_channel(f"127.0.0.1:{port}") as channel:
        ask = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.RpcError) as nobody:
            # Less than one attempt may take: were that waited for, it would be a deadline's error.
            await asyncio.to_thread(ask, health_pb2.HealthCheckRequest(), timeout=3)
    assert nobody.value.code() is grpc.StatusCode.UNAVAILABLE
