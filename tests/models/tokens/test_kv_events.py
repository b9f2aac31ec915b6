"""KV events of a replica in both of vLLM's formats, and the index of a picker that follows them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from lab.plugins.pickers._exact_index import ExactIndex
from models.proto.generation.v1 import generation_pb2
from models.tokens import kv_events
from models.tokens.blocks import chain
from models.tokens.engine import TokenEngine
from models.tokens.kv_events import ARRAYS, MAPS, KvEvents
from models.tokens.settings import TokenSettings

SMALL = TokenSettings(blocks=4, kv_events=MAPS)


async def served(engine: TokenEngine, *prompts: range) -> list[tuple[int, bytes]]:
    """Serves prompts one after the other, and returns the batches of which the engine then has to tell."""
    for prompt in prompts:
        async with engine.run(generation_pb2.GenerateRequest(prompt=prompt, max_tokens=1)):
            pass
    return await first(engine.kv_events, len(prompts))


async def first(events: KvEvents, number: int, sequence: int = 0) -> list[tuple[int, bytes]]:
    found = []
    async with asyncio.timeout(5):
        async for each in events.follow(sequence):
            found.append(each)
            if len(found) == number:
                break
    return found


def of(prompt: range) -> list[bytes]:
    return chain(prompt, tenant="", lora="")


@pytest.mark.parametrize("form", [ARRAYS, MAPS])
async def test_the_index_holds_what_the_cache_holds(form: int) -> None:
    one, other = range(48), range(1_000, 1_048)
    engine = TokenEngine(replace(SMALL, kv_events=form))
    batches = await served(engine, one, other)
    index = ExactIndex()

    for number, payload in batches[:1]:
        index.apply("a", number, payload)
    assert (index.match("a", of(one)), index.match("a", of(other)), index.match("b", of(one))) == (3, 0, 0)
    index.apply("a", *batches[1])
    assert (index.match("a", of(one)), index.match("a", of(other))) == (engine.cache.hits(of(one), 49), 3)
    assert index.match("a", of(one)) == 1  # its other blocks made room


async def test_an_event_is_an_array_with_its_kind_first_or_a_map_with_its_type() -> None:
    [(_, old)] = await served(TokenEngine(replace(SMALL, kv_events=ARRAYS)), range(32))
    [(_, new)] = await served(TokenEngine(SMALL), range(32))
    blocks = [int.from_bytes(each, "big") for each in of(range(32))]

    at, [event], rank = msgpack.unpackb(old)
    assert (event, rank) == (["BlockStored", blocks, None, [], 16, None, "GPU", None], 0)
    assert at > 0
    _, [event], _ = msgpack.unpackb(new)
    assert (event["type"], event["block_hashes"], event["parent_block_hash"]) == ("BlockStored", blocks, None)


async def test_what_follows_a_known_beginning_names_its_parent() -> None:
    _, (_, payload) = await served(TokenEngine(SMALL), range(32), range(64))
    _, [event], _ = msgpack.unpackb(payload)

    assert event["parent_block_hash"] == int.from_bytes(of(range(32))[1], "big")
    assert len(event["block_hashes"]) == 2


async def test_earlier_batches_are_sent_again_while_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_events, "KEPT", 2)
    engine = TokenEngine(SMALL)
    await served(engine, range(16))
    async with engine.run(generation_pb2.GenerateRequest(prompt=range(100, 116), max_tokens=1)):
        pass
    async with engine.run(generation_pb2.GenerateRequest(prompt=range(200, 216), max_tokens=1)):
        pass

    assert [number for number, _ in await first(engine.kv_events, 2)] == [1, 2]
    assert [number for number, _ in await first(engine.kv_events, 1, sequence=2)] == [2]


async def test_without_a_format_nothing_is_published() -> None:
    engine = TokenEngine(TokenSettings())
    async with engine.run(generation_pb2.GenerateRequest(prompt=range(64), max_tokens=1)):
        pass
    following = asyncio.ensure_future(anext(engine.kv_events.follow(0)))
    await asyncio.sleep(0)
    assert not following.done()
    following.cancel()


def batch(*events: Any) -> bytes:
    return bytes(msgpack.packb([0.0, events, 0]))


def stored(prompt: range) -> Any:
    return {"type": "BlockStored", "block_hashes": [int.from_bytes(each, "big") for each in of(prompt)]}


def test_after_a_gap_nothing_is_known_until_the_replica_begins_again_or_clears_its_cache() -> None:
    index, prompt = ExactIndex(), range(32)
    index.apply("a", 0, batch(stored(prompt)))
    index.apply("a", 2, batch(stored(range(100, 116))))
    assert index.match("a", of(prompt)) == index.match("a", of(range(100, 116))) == 0
    index.apply("a", 3, batch(stored(prompt)))
    assert index.match("a", of(prompt)) == 0

    index.apply("a", 4, batch(["AllBlocksCleared"], stored(prompt)))
    assert index.match("a", of(prompt)) == 2
    index.apply("a", 9, batch())
    index.apply("a", 0, batch(stored(prompt)))
    assert index.match("a", of(prompt)) == 2
