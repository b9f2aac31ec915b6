"""The engine of a token model: its times by the published formulas, its queue, and its journal."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import orjson
import pytest

from models.proto.generation.v1 import generation_pb2
from models.tokens.engine import FullError, TokenEngine
from models.tokens.settings import TokenSettings
from tests.waiting import eventually


def request(name: str, tokens: int = 64) -> generation_pb2.GenerateRequest:
    made = generation_pb2.GenerateRequest(prompt=range(tokens), max_tokens=2, lora="a")
    made.envelope.request_id = name
    return made


def journal(engine: TokenEngine) -> dict[str, Any]:
    return {each["request_id"]: each for each in map(orjson.loads, engine.journal())}


def test_times_follow_the_formulas() -> None:
    settings = TokenSettings(time_scale=0.5, overhead_ms=20, prefill_ms=0.35, itl_ms=15, load_factor=3, max_num_seqs=5)

    assert settings.first_token_s(1_000, 1) == pytest.approx((20 + 350) * 0.5 / 1_000)
    assert settings.first_token_s(1_000, 5) == pytest.approx(3 * settings.first_token_s(1_000, 1))
    assert settings.next_token_s(3) == pytest.approx(2 * settings.next_token_s(1))
    assert TokenSettings.parse(settings.to_text()) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("block=3", "block: is not known"),
        ("blocks=0", "use a whole number from 1"),
        ("blocks=1.5", "use a whole number from 1"),
        ("itl_ms=-1", "use a number from 0"),
        ("kv_events=3", "use a whole number from 0 to 2"),
        ("itl_ms=nan", "use a number from 0"),
    ],
)
def test_a_wrong_setting_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TokenSettings.parse(text)


async def test_the_queue_is_first_in_first_out_and_refuses_what_is_too_much() -> None:
    engine = TokenEngine(TokenSettings(max_num_seqs=1, queue_limit=2))
    order: list[str] = []

    def waits(place: int) -> bool:
        return engine.waiting == place

    async def serve(name: str) -> None:
        async with engine.run(request(name)):
            order.append(name)

    async with AsyncExitStack() as first:
        await first.enter_async_context(engine.run(request("first")))
        queued = []
        for place, name in enumerate(("second", "third"), start=1):
            queued.append(asyncio.create_task(serve(name)))
            await eventually("it waits", partial(waits, place))
        with pytest.raises(FullError, match="runs 1 requests and has 2 waiting"):
            await serve("fourth")
        queued[0].cancel()
        await asyncio.gather(queued[0], return_exceptions=True)
        assert (engine.running, engine.waiting) == (1, 1)
    await queued[1]

    assert order == ["third"]
    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0.0)
    found = journal(engine)
    assert found["fourth"]["shed"]
    assert found["fourth"]["began"] == found["second"]["began"] == 0
    assert found["first"]["ended"] < found["third"]["began"] < found["third"]["ended"]
    assert (found["third"]["cached"], found["third"]["waiting"], found["third"]["running"]) == (48, 1, 1)
    assert len(found["third"]["hashes"]) == 4 * 16


async def test_one_that_is_cancelled_as_its_turn_comes_gives_it_to_the_next() -> None:
    engine = TokenEngine(TokenSettings(max_num_seqs=1))

    async def serve(name: str) -> str:
        async with engine.run(request(name)):
            return name

    async with engine.run(request("first")):
        second, third = asyncio.create_task(serve("second")), asyncio.create_task(serve("third"))
        await eventually("both wait", lambda: engine.waiting, until=lambda waiting: waiting == 2)
    second.cancel()

    assert await third == "third"
    assert second.cancelled()
    assert engine.running == 0


async def test_who_comes_after_a_place_was_given_away_begins_after_the_one_who_has_it() -> None:
    engine = TokenEngine(TokenSettings(max_num_seqs=2, queue_limit=5))
    served = [engine.run(request(name)) for name in ("first", "second")]
    for each in served:
        await each.__aenter__()
    waiter = engine.run(request("waiter"))
    waiting = asyncio.ensure_future(waiter.__aenter__())
    await eventually("it waits", lambda: engine.waiting == 1)

    for each in served:  # the waiter has a place now, and has not run since
        await each.__aexit__(None, None, None)
    later = engine.run(request("later"))
    await later.__aenter__()

    await waiting
    found = journal(engine)
    assert 0 < found["waiter"]["began"] < found["later"]["began"]
    for each in (waiter, later):
        await each.__aexit__(None, None, None)
    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0.0)


async def test_who_gives_up_as_it_gets_its_place_gives_all_of_it_back() -> None:
    engine = TokenEngine(TokenSettings(max_num_seqs=1))
    served = engine.run(request("first"))
    await served.__aenter__()
    waiting = asyncio.ensure_future(engine.run(request("waiter")).__aenter__())
    await eventually("it waits", lambda: engine.waiting == 1)

    await served.__aexit__(None, None, None)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0.0)
    assert journal(engine)["waiter"]["ended"]
