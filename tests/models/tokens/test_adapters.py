"""The adapters of a replica: how many it holds, which one makes room, and how long a request waits for its own."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from models.proto.generation.v1 import generation_pb2
from models.stub.generation import expose_engine
from models.tokens.adapters import Adapters
from models.tokens.engine import TokenEngine
from models.tokens.settings import TokenSettings
from tests.waiting import eventually


async def used(adapters: Adapters, name: str) -> tuple[str, bool, str]:
    """Returns whose weights a request for an adapter got, whether they were loaded for it, and what made room."""
    slots: list[tuple[bool, str]] = []
    async with adapters.use(name, lambda slot, loads: slots.append((loads, slot.evicted))) as weights:
        return weights, *slots[0]


async def test_the_adapter_that_was_unused_for_longest_makes_room() -> None:
    adapters = Adapters(2, 0.0)

    assert await used(adapters, "a") == ("a", True, "")
    assert await used(adapters, "b") == ("b", True, "")
    assert (await used(adapters, "a"))[:2] == ("a", False)
    assert await used(adapters, "c") == ("c", True, "b")
    assert adapters.loaded == ["a", "c"]
    assert adapters.running == []


async def test_a_request_waits_for_its_load_and_others_of_the_adapter_for_the_same() -> None:
    adapters = Adapters(1, 0.1)
    began = time.monotonic()

    found = await asyncio.gather(used(adapters, "a"), used(adapters, "a"))

    assert time.monotonic() - began >= 0.1
    assert [loads for _, loads, _ in found] == [True, False]


async def test_a_request_waits_while_others_use_all_slots_and_the_signal_says_for_what() -> None:
    engine = TokenEngine(TokenSettings(max_loras=1, max_num_seqs=2))

    def request(lora: str) -> generation_pb2.GenerateRequest:
        made = generation_pb2.GenerateRequest(prompt=range(16), max_tokens=1, lora=lora)
        made.envelope.request_id = f"r-{lora}"
        return made

    async def serve(lora: str) -> str:
        async with engine.run(request(lora)) as running:
            return running.lora

    async with engine.run(request("a")):
        other = asyncio.create_task(serve("b"))
        await eventually("it waits", lambda: engine.adapters.waiting, until=lambda waiting: waiting == ["b"])
        assert engine.adapters.running == ["a"]
    assert await other == "b"

    first, second = map(orjson.loads, engine.journal())
    assert (first["slot"], first["loads"], first["evicted"]) == (first["began"] + 1, True, "")
    assert (second["loads"], second["evicted"]) == (True, "a")
    assert second["slot"] > first["ended"] > second["began"]
    assert (engine.adapters.loaded, engine.adapters.waiting) == (["b"], [])


async def test_without_a_bound_adapters_take_no_time() -> None:
    adapters = Adapters(0, 60.0)
    async with adapters.use("a", lambda *_: pytest.fail("it has no slots")) as weights:
        assert weights == "a"


def test_the_metric_has_the_name_and_the_labels_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    exposed = {}
    monkeypatch.setattr(
        "models.stub.generation.expose", lambda name, _, read, labels=(): exposed.update({name: (read, labels)})
    )
    expose_engine(TokenEngine(TokenSettings(max_loras=4)))

    read, labels = exposed["vllm:lora_requests_info"]
    assert labels == ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
    assert [*read()] == [("4", "", "")]
