"""A door admits the router in front of it alone, and says what it has."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from lab.plugins.foreign_pickers.door import TOKENIZE, Door
from lab.transport.rest_server import HttpReply, HttpRequest
from services.gateway.openai import COMPLETIONS, MODELS


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A door of a replica that nobody has started."""
    found = Door("127.0.0.1:9", "ml-cluster-1", ["Chat"], "secret")
    yield found
    await found.close()


async def asked(door: Door, method: str, path: str, body: object = None, key: str = "") -> HttpReply:
    async def read() -> bytes:
        return orjson.dumps(body)

    headers = [("authorization", f"Bearer {key}")] if key else []
    return await door(HttpRequest(method, path, headers, read))


@pytest.mark.parametrize("key", ["", "other"])
async def test_who_does_not_know_its_key_gets_no_tokens(door: Door, key: str) -> None:
    assert (await asked(door, "POST", COMPLETIONS, {}, key)).status == 401
    assert (await asked(door, "POST", COMPLETIONS, {}, "secret")).status == 400  # it has no evidence


async def test_it_lists_its_models_and_reads_tokens(door: Door) -> None:
    models = orjson.loads((await asked(door, "GET", MODELS)).body)
    tokens = orjson.loads((await asked(door, "POST", TOKENIZE, {"prompt": "00000001 ffffffff"})).body)
    assert [each["id"] for each in models["data"]] == ["Chat"]
    assert (tokens["count"], tokens["tokens"]) == (2, [1, 2**32 - 1])
    assert (await asked(door, "POST", TOKENIZE, {"prompt": "hello"})).status == 400
    assert (await asked(door, "GET", "/version")).status == 404
