"""The API ``generate.v1`` of a replica: the same tokens at once and as a stream, and what it says that they cost."""

from __future__ import annotations

import asyncio

import grpc
import orjson
import pytest

from lab.routing.keys import COPY, COPY_HEADER, HEADER
from models.apis import items_digest
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.proto.generation.v1 import generation_pb2, generation_pb2_grpc
from models.scoring import scores
from tests.models.replicas import ControlPlane, RunningReplica, StartReplica
from tests.waiting import eventually

FAST = "time_scale=0.01"


def request(tokens: int = 64, answer: int = 3, lora: str = "") -> generation_pb2.GenerateRequest:
    made = generation_pb2.GenerateRequest(prompt=range(tokens), max_tokens=answer, lora=lora)
    made.envelope.request_id = "r-1"
    made.envelope.context.user_id = "u1"
    made.envelope.model_config.model, made.envelope.model_config.version = "chat", "v1"
    return made


@pytest.fixture
async def replica(control_plane: ControlPlane, start_replica: StartReplica) -> RunningReplica:
    started = await start_replica("--tokens", f"{FAST},max_num_seqs=1,queue_limit=0")
    await control_plane.load(7, "chat.v1")
    return started


async def test_a_stream_has_the_tokens_of_the_whole_answer_and_the_second_request_finds_its_prompt(
    replica: RunningReplica,
) -> None:
    stub = generation_pb2_grpc.GenerationStub(replica.channel)

    whole = await stub.Generate(request())
    streamed = [each async for each in stub.GenerateStream(request())]

    ids = ["g00", "g01", "g02"]
    assert [(token.id, token.score) for token in whole.tokens] == list(
        zip(ids, scores("chat", "v1", "u1", ids), strict=True)
    )
    assert list(whole.tokens) == [each.token for each in streamed]
    assert whole.answered_by == streamed[0].answered_by == streamed[2].answered_by
    assert (whole.usage.prompt_tokens, whole.usage.cached_tokens) == (64, 0)
    assert [each.usage.cached_tokens for each in streamed] == [48, 0, 0]


async def test_what_a_copy_is_answered_is_kept(replica: RunningReplica) -> None:
    stub, copied = generation_pb2_grpc.GenerationStub(replica.channel), ((COPY_HEADER, COPY), (HEADER, "chat.v1"))

    whole = await stub.Generate(request(), metadata=copied)
    _ = [each async for each in stub.GenerateStream(request(), metadata=copied)]

    kept = [arrival.answer for arrival, _, _ in replica.replica.handler.journal.since(0)]
    assert kept == [items_digest([(token.id, token.score) for token in whole.tokens])] * 2


async def test_a_full_queue_refuses_and_says_how_full_and_pickers_see_the_load(replica: RunningReplica) -> None:
    stub, signals = generation_pb2_grpc.GenerationStub(replica.channel), picks_pb2_grpc.SignalsStub(replica.channel)

    long = asyncio.ensure_future(stub.Generate(request(tokens=400_000)))

    async def running() -> int:
        return int((await signals.GetLoad(picks_pb2.GetLoadRequest())).running)

    await eventually("it runs", running, until=bool)
    with pytest.raises(grpc.aio.AioRpcError, match="runs 1 requests and has 0 waiting, its queue_limit") as refused:
        await stub.Generate(request())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    long.cancel()
    await eventually("it ends", running, until=lambda count: not count)
    journal = picks_pb2_grpc.PickJournalStub(replica.channel).Read(picks_pb2.ReadPicksRequest())
    lines = b"".join([each.lines async for each in journal]).splitlines()
    first, shed = map(orjson.loads, lines)
    assert (first["prompt"], first["cached"], bool(first["ended"])) == (400_000, 0, True)
    assert shed["shed"]


NEEDS = "needs a prompt, and max_tokens from 1 to 4096"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (request(tokens=0), NEEDS),
        (request(answer=0), NEEDS),
        (request(answer=5_000), NEEDS),
        (request(lora="l" * 129), "lora has 129 characters; at most 128 are allowed"),
    ],
    ids=["no prompt", "no tokens", "too many tokens", "too long a lora"],
)
async def test_a_request_out_of_bounds_is_refused(
    replica: RunningReplica, wrong: generation_pb2.GenerateRequest, says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=says):
        await generation_pb2_grpc.GenerationStub(replica.channel).Generate(wrong)
    assert replica.replica.handler.in_flight == 0
