"""Bytes that are not a message of their method are refused on every kind of method, and nothing is logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from lab.transport import channels, new_server
from lab.transport.servers import listen

SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING)
HOSTILE = {"cut off": b"\x0a\x05a", "group that does not end": b"\x0b", "not UTF-8": b"\x0a\x01\xff"}
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


async def one(_request: Any, _context: Any) -> HealthCheckResponse:
    return SERVING


async def several(_request: Any, _context: Any) -> AsyncIterator[HealthCheckResponse]:
    yield SERVING


async def last(requests: Any, _context: Any) -> HealthCheckResponse:
    async for _ in requests:
        pass
    return SERVING


async def each(requests: Any, _context: Any) -> AsyncIterator[HealthCheckResponse]:
    async for _ in requests:
        yield SERVING


BEHAVIOURS = dict(zip(KINDS, (one, several, last, each), strict=True))


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    handlers = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(
            BEHAVIOURS[kind], HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        )
        for kind in KINDS
    }
    server, _ = new_server(handlers=[grpc.method_handlers_generic_handler("test.All", handlers)])
    port = listen(server, "127.0.0.1:0")
    await server.start()
    async with channels.open_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def status_of(channel: grpc.aio.Channel, kind: str, *messages: bytes) -> tuple[grpc.StatusCode, str]:
    async def stream() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    call = getattr(channel, kind)(f"/test.All/{kind}")(stream() if kind.startswith("stream") else messages[-1])
    with suppress(grpc.aio.AioRpcError):
        if kind.endswith("stream"):
            async for _ in call:
                pass
    return await call.code(), await call.details()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wire", HOSTILE.values(), ids=HOSTILE)
async def test_malformed_bytes_are_an_invalid_argument_and_are_not_logged(
    kind: str, wire: bytes, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good = HealthCheckRequest(service="a").SerializeToString()

    assert (await status_of(channel, kind, good))[0] is grpc.StatusCode.OK
    assert await status_of(channel, kind, good, wire) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"test.All: the bytes are not a message of {kind}",
    )
    assert [
        record for record in caplog.records if record.name.startswith("grpc") and record.levelno > logging.INFO
    ] == []
