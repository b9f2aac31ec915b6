import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from lab.transport import listen, new_server
from models.apis import APIS
from tests.load.builders import GatedServer


@pytest.fixture(name="server")
async def fixture_server() -> AsyncIterator[GatedServer]:
    gated = GatedServer("", asyncio.Event())
    gated.gate.set()
    api = APIS["ranking.v1"]
    handler = grpc.unary_unary_rpc_method_handler(
        gated.rank,
        request_deserializer=api.unary.request_class.FromString,
        response_serializer=api.unary.response_class.SerializeToString,
    )
    server, _ = new_server(handlers=[grpc.method_handlers_generic_handler(api.service, {"Rank": handler})])
    gated.address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    await server.start()
    yield gated
    gated.gate.set()
    await server.stop(None)
