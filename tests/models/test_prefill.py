"""Prefill and decode apart, between two real replicas: who computes the prompt, and what both journals say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
import orjson
import pytest

from lab.routing.headers import PREFILLER
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.proto.generation.v1 import generation_pb2, generation_pb2_grpc
from models.tokens.settings import TokenSettings
from tests.models.replicas import ControlPlane, RunningReplica, StartReplica
from tests.models.test_generation import request
from tests.waiting import eventually

TOKENS = "time_scale=0.1,prefill_replicas=1,kv_transfer_ms=0.5,itl_ms=0,max_num_seqs=1,queue_limit=0"
PROMPT = 320
PREFILL_S, TRANSFER_S = 0.1 * (20 + PROMPT * 0.35) / 1_000, 0.1 * PROMPT * 0.5 / 1_000

Pair = tuple[RunningReplica, RunningReplica]
Journal = list[Mapping[str, Any]]


@pytest.fixture
async def pair(control_plane: ControlPlane, start_replica: StartReplica) -> Pair:
    """A replica that only prefills, and one that decodes; each serves one request at once, and none waits."""
    started = [await start_replica("--tokens", TOKENS, "--replica", f"ml-cluster-1-{name}") for name in "ab"]
    await control_plane.load(7, "chat.v1")

    def loaded() -> set[str]:
        return {each.replica for each in control_plane.reports if "chat.v1" in each.loaded}

    await eventually("both have loaded it", loaded, until=lambda names: len(names) == len(started))
    return started[0], started[1]


async def journal(replica: RunningReplica) -> Journal:
    read = picks_pb2_grpc.PickJournalStub(replica.channel).Read(picks_pb2.ReadPicksRequest())
    return [orjson.loads(line) for line in b"".join([each.lines async for each in read]).splitlines()]


async def generate(replica: RunningReplica, named: str, tokens: int = PROMPT) -> generation_pb2.GenerateResponse:
    answer: generation_pb2.GenerateResponse = await generation_pb2_grpc.GenerationStub(replica.channel).Generate(
        request(tokens), metadata=((PREFILLER, named),)
    )
    return answer


async def test_a_prompt_is_prefilled_where_the_header_says_and_takes_the_time_of_both(pair: Pair) -> None:
    prefills, decodes = pair

    began = time.monotonic()
    answer = await generate(decodes, prefills.replica.address)
    took_s = time.monotonic() - began
    [there], [here] = await journal(prefills), await journal(decodes)

    assert (there["request_id"], there["work"], there["prompt"], there["prefiller"]) == ("r-1", "prefill", PROMPT, "")
    assert (here["request_id"], here["work"], here["fell_back"]) == ("r-1", "", "")
    assert here["prefiller"] == prefills.replica.address
    assert here["hashes"] == there["hashes"]
    assert answer.usage.cached_tokens == 0
    assert took_s >= PREFILL_S + TRANSFER_S  # 13.2 and 16.0 ms
    assert here["began_ns"] - there["began_ns"] >= PREFILL_S * 1e9


async def test_both_caches_have_the_prompt_then(pair: Pair) -> None:
    prefills, decodes = pair
    for _ in range(2):
        await generate(decodes, prefills.replica.address)

    assert [each["cached"] for each in await journal(prefills)] == [0, PROMPT - 16]
    assert [each["cached"] for each in await journal(decodes)] == [0, PROMPT - 16]


async def test_a_replica_whose_prefiller_fails_prefills_itself_and_says_why(pair: Pair) -> None:
    _, decodes = pair

    answer = await generate(decodes, "127.0.0.1:1")
    [here] = await journal(decodes)

    assert len(answer.tokens) == 3
    assert here["prefiller"] == "127.0.0.1:1"
    assert here["fell_back"].startswith("UNAVAILABLE: ")


async def test_a_full_prefiller_refuses_and_the_replica_prefills_itself(pair: Pair) -> None:
    prefills, decodes = pair
    busy = asyncio.ensure_future(generate(prefills, "127.0.0.1:1", tokens=400_000))

    async def begun() -> Journal:
        return await journal(prefills)

    await eventually("it is busy", begun, until=bool)
    await generate(decodes, prefills.replica.address)
    busy.cancel()

    [here], [_, there] = await journal(decodes), await journal(prefills)
    assert here["fell_back"].startswith("RESOURCE_EXHAUSTED: chat: runs 1 requests and has 0 waiting")
    assert (there["work"], there["began"], bool(there["shed"])) == ("prefill", 0, True)


@pytest.mark.parametrize("named", ["nowhere", "127.0.0.1", "dns:///a:1", "10.0.0.1:1,10.0.0.2:1", f"{'a' * 300}:1"])
async def test_a_prefiller_that_is_not_an_address_is_refused(pair: Pair, named: str) -> None:
    _, decodes = pair

    with pytest.raises(
        grpc.aio.AioRpcError, match=r"x-prefiller-host-port: .* is not an address; send ip:port"
    ) as told:
        await generate(decodes, named)

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert decodes.replica.handler.in_flight == 0


async def test_a_replica_of_a_cluster_without_prefill_replicas_asks_nobody(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    replica = await start_replica("--tokens", "time_scale=0.01")
    await control_plane.load(7, "chat.v1")

    await generate(replica, "127.0.0.1:1")

    [entry] = await journal(replica)
    assert (entry["prefiller"], entry["fell_back"]) == ("", "")


async def test_a_prefill_replica_that_drains_finishes_what_it_prefills(pair: Pair) -> None:
    prefills, decodes = pair
    asking = asyncio.ensure_future(generate(decodes, prefills.replica.address, tokens=40_000))  # 1.4 s

    async def begun() -> Journal:
        return await journal(prefills)

    await eventually("it prefills", begun, until=bool)
    prefills.stop.set()
    await prefills.task
    await asking

    [here] = await journal(decodes)
    assert here["fell_back"] == ""


@pytest.mark.parametrize(
    ("number", "first"),
    [(0, []), (1, ["a"]), (3, ["a", "b", "c"]), (27, [*"abcdefghijklmnopqrstuvwxyz", "aa"])],
)
def test_the_first_replicas_of_a_cluster_only_prefill(number: int, first: list[str]) -> None:
    settings = TokenSettings(prefill_replicas=number)
    names = [*"abcdefghijklmnopqrstuvwxyz", "aa", "ab"]
    assert [each for each in names if settings.only_prefills(f"ml-cluster-1-{each}")] == first


async def test_pickers_see_which_replica_only_prefills(pair: Pair) -> None:
    loads = [await picks_pb2_grpc.SignalsStub(each.channel).GetLoad(picks_pb2.GetLoadRequest()) for each in pair]
    assert [each.prefills for each in loads] == [True, False]
