import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from lab.transport import drain, listen, new_server, open_channel
from tests.raw_calls import unary
from tests.transport.servers import WHO, answering
from tests.waiting import eventually

_PEER = b""
"""Service name that is answered with the address of the connection's client."""


@asynccontextmanager
async def serving(
    name: bytes, *, drained: bool = False, max_connection_age_s: float = 0.0
) -> AsyncIterator[tuple[str, HealthServicer]]:
    handler = answering(lambda context: name or context.peer().encode())
    server, healthy = new_server(handlers=[handler], max_connection_age_s=max_connection_age_s)
    address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    await server.start()
    try:
        yield address, healthy
    finally:
        await (drain(server, healthy, grace_s=10) if drained else server.stop(0))


async def test_a_server_that_drains_fails_no_request_of_a_balanced_client() -> None:
    async with AsyncExitStack() as stays, AsyncExitStack() as leaves:
        one, _ = await stays.enter_async_context(serving(b"stays"))
        other, _ = await leaves.enter_async_context(serving(b"leaves", drained=True))
        channel = await stays.enter_async_context(open_channel(one, other))
        who = unary(channel, WHO)
        seen: list[bytes] = []
        seen_since: list[bytes] = []
        has_left = done = False

        async def load() -> None:
            while not done:
                answers = seen_since if has_left else seen
                answers.append(await who(b"", wait_for_ready=True))

        loads = [asyncio.create_task(load()) for _ in range(32)]
        await eventually("both answer", lambda: set(seen) == {b"stays", b"leaves"})
        await leaves.aclose()
        has_left = True
        await eventually("the other answers", lambda: seen_since)
        done = True
        await asyncio.gather(*loads)
        assert set(seen_since) == {b"stays"}


async def test_a_server_that_is_not_ready_yet_gets_nothing() -> None:
    async with serving(b"ready") as (one, _), serving(b"late") as (other, healthy):
        await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        async with open_channel(one, other) as channel:
            who = unary(channel, WHO)
            assert {await who(b"", wait_for_ready=True) for _ in range(20)} == {b"ready"}
            await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
            while await who(b"") != b"late":
                await asyncio.sleep(0)


async def test_channels_to_one_address_share_a_connection_unless_asked_not_to() -> None:
    async with serving(_PEER) as (address, _), AsyncExitStack() as stack:

        async def peers(*, own_connection: bool) -> set[bytes]:
            channels = [
                await stack.enter_async_context(open_channel(address, own_connection=own_connection)) for _ in range(3)
            ]
            return {await unary(channel, WHO)(b"") for channel in channels}

        assert len(await peers(own_connection=False)) == 1
        assert len(await peers(own_connection=True)) == 3


async def test_a_server_that_ends_old_connections_fails_no_request() -> None:
    async with serving(_PEER, max_connection_age_s=0.2) as (address, _), open_channel(address) as channel:
        who = unary(channel, WHO)
        connections: set[bytes] = set()
        while len(connections) < 3:
            connections.add(await who(b""))
