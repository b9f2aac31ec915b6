"""On a busy machine handshakes are slow; a single call over a new channel survives that."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.transport import listen, new_server, open_blocking_channel
from tests.parts import Relay


def ask(address: str, within_s: float) -> health_pb2.HealthCheckResponse:
    with open_blocking_channel(address) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=within_s)


async def test_a_call_survives_a_slow_handshake() -> None:
    server, _ = new_server()
    port = listen(server, "127.0.0.1:0")
    await server.start()
    try:
        # More than an attempt to connect may take where it is repeated.
        async with Relay(f"127.0.0.1:{port}", late_s=1.5).up() as way:
            assert (await asyncio.to_thread(ask, way.address, 30)).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(None)
    assert len(way.came) == 1  # at the first attempt


async def test_without_a_listener_a_call_fails_at_once() -> None:
    async with Relay("127.0.0.1:1").up() as gone:
        pass
    with pytest.raises(grpc.RpcError) as nobody:
        # Less than one attempt may take: were that waited for, it would be a deadline's error.
        await asyncio.to_thread(ask, gone.address, 3)
    assert nobody.value.code() is grpc.StatusCode.UNAVAILABLE
