import asyncio
import json
from typing import Any

import numpy as np
import pytest

from lab.errors import UnitError
from lab.plugins.bench.harness import payloads
from lab.plugins.bench.harness.encoding_clients import JsonClient
from lab.plugins.bench.suites import encodings
from lab.transport import RestServer
from lab.transport.relay import relay_to
from lab.transport.rest_server import HttpReply, HttpRequest
from models.json_mapping import parse


async def test_the_relay_counts_every_byte_of_either_side() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(await reader.read(1_000)) == 1_000:
            writer.write(b"x" * 300_000)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with relay_to(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as relay:
        host, port = relay.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        counted = [await relay.settled()]
        for _ in range(3):
            writer.write(b"y" * 1_000)
            await reader.readexactly(300_000)
            counted.append(await relay.settled())
        writer.close()
    server.close()

    assert counted == [(0, 0), (1_000, 300_000), (2_000, 600_000), (3_000, 900_000)]
    assert counted[3].since(counted[1], 2) == (1_000, 300_000)


async def test_the_bare_client_of_json_keeps_its_connection_and_says_why_it_was_refused() -> None:
    seen: list[Any] = []

    async def answer(request: HttpRequest) -> HttpReply:
        seen.append(json.loads(await request.read()))
        return HttpReply(200, b"[" + b"1," * 300_000 + b"1]") if len(seen) < 4 else HttpReply(400, b'{"message": "no"}')

    server = RestServer(answer)
    port = server.listen("127.0.0.1:0")
    client = JsonClient(f"127.0.0.1:{port}", {"features": np.array([0.1, 2.5], dtype=np.float32)})
    try:
        for _ in range(3):
            assert len(await client.ask(0)) == 300_001
        assert seen == [{"features": [0.1, 2.5]}] * 3
        assert len(server._http.connections) == 1
        with pytest.raises(UnitError, match=r'by REST: \{"message": "no"\}'):
            await client.ask(0)
    finally:
        await client.close()
        await server.close()


@pytest.mark.parametrize("size", encodings.SIZES.values())
def test_both_encodings_carry_one_request_whose_features_have_all_their_digits(size: int) -> None:
    payload = payloads.sized_payload("x", size)
    message = payload.message()()

    assert abs(message.ByteSize() - message.envelope.ByteSize() - size) <= 0.02 * size + 10
    assert parse(type(message), encodings._json(payload.document())) == message
    features = [value for title in message.titles for value in title.features]
    assert len(set(features)) > 0.99 * len(features)


def test_the_talks_example_is_what_the_slide_says() -> None:
    message = payloads.talk_payload().message()()

    assert (message.envelope.context.user_id, message.envelope.context.surface) == ("u_abc123", "home_page")
    assert [title.id for title in message.titles] == ["t01", "t02"]
