"""A finished call leaves nothing to the garbage collector, and a channel still knows its calls in flight."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.identity.authority import Authority
from lab.transport import listen, new_server, open_channel
from lab.transport.security import PLAINTEXT, Security
from tests.transport.servers import secured

CALLS = 20
ECHO, ITEMS, LACKING = "/test.Slow/Echo", "/test.Slow/Items", "/test.Slow/Lacking"


class Gate:
    """Answers while it is open."""

    def __init__(self) -> None:
        self.open, self.waiting = asyncio.Event(), asyncio.Event()

    async def echo(self, request: bytes, _context: Any) -> bytes:
        self.waiting.set()
        await self.open.wait()
        return request

    async def items(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield request


@asynccontextmanager
async def served(security: Security | None) -> AsyncIterator[tuple[str, Gate]]:
    gate = Gate()
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(gate.echo),
        "Items": grpc.unary_stream_rpc_method_handler(gate.items),
    }
    server, _ = new_server(security=security, handlers=[grpc.method_handlers_generic_handler("test.Slow", handlers)])
    port = listen(server, "127.0.0.1:0", security)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", gate
    finally:
        gate.open.set()
        await server.stop(None)


@contextmanager
def garbage() -> Iterator[list[str]]:
    """The types of what only the garbage collector would free of what the body leaves."""
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    found: list[str] = []
    try:
        yield found
        gc.collect()
        found += [type(each).__name__ for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()


@pytest.fixture(params=["plaintext", "mtls"])
def securities(request: pytest.FixtureRequest, authority: Authority) -> tuple[Security, Security]:
    """Of the server and of its client."""
    if request.param == "plaintext":
        return Security(PLAINTEXT), Security(PLAINTEXT)
    return secured(authority, "gateway", "gateway-1"), secured(authority, "caller", "homepage")


async def test_finished_calls_leave_nothing_to_the_garbage_collector(securities: tuple[Security, Security]) -> None:
    async with served(securities[0]) as (address, gate), open_channel(address, security=securities[1]) as channel:
        gate.open.set()
        rpcs: list[Any] = [channel.unary_unary(ECHO), channel.unary_stream(ITEMS), channel.unary_unary(LACKING)]
        echo, items, lacking = rpcs
        await echo(b"connects")
        with garbage() as found:
            for _ in range(CALLS):
                assert await echo(b"x") == b"x"
                assert [item async for item in items(b"x")] == [b"x"] * 3
                with suppress(grpc.aio.AioRpcError):
                    await lacking(b"x")

    # The server runs in the same loop; what it leaves is its own.
    assert [name for name in found if name.endswith("Call")] == []


@pytest.mark.parametrize(("grace_s", "outcome"), [(30.0, b"x"), (None, grpc.StatusCode.CANCELLED)])
async def test_a_channel_that_closes_waits_for_its_calls_in_flight_or_ends_them(
    securities: tuple[Security, Security], grace_s: float | None, outcome: object
) -> None:
    async with served(securities[0]) as (address, gate):
        channel = open_channel(address, security=securities[1])
        echo: Any = channel.unary_unary(ECHO)
        call = echo(b"x")
        await gate.waiting.wait()
        closing = asyncio.create_task(channel.close(grace_s))
        await asyncio.sleep(0)
        if grace_s:
            gate.open.set()
        await closing

        if grace_s:
            assert await call == outcome
        else:
            assert await call.code() is outcome
