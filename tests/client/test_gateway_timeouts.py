"""A gateway's caller ends each call soon after the use case's timeout, which the gateway reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from lab.errors import CallError
from lab.routing.attempts import AnswerMetadata
from lab.topologies import open_client
from lab.transport import open_channel
from models.proto.ranking.v1 import ranking_pb2_grpc
from tests.parts import ControlPlane, Model, Relay, client_of, gateway_up, rank_request, update, use_case
from tests.waiting import eventually

if TYPE_CHECKING:
    from lab.client import Answer, Client
    from lab.lab import Lab

    Ask = Callable[[Client], Coroutine[None, None, Answer]]

CONTEXT = {"user_id": "u1"}


async def called(client: Client) -> Answer:
    return await client.call("HomepageRows", rank_request(), CONTEXT)


async def streamed(client: Client) -> Answer:
    items = [item async for item in client.stream("HomepageRows", rank_request(), CONTEXT)]
    return items[-1]


both = pytest.mark.parametrize("ask", [called, streamed])


async def put_in_force(control_plane: ControlPlane, model: Model, revision: int, lasts: str) -> None:
    rows = {"HomepageRows": use_case("rows@v1", timeout=lasts)}
    await control_plane.put_in_force(
        update(revision, use_cases=rows, endpoints={"rows.v1": [model.address]}), "gateway"
    )


@asynccontextmanager
async def answered(control_plane: ControlPlane, model: Model, ask: Ask) -> AsyncIterator[tuple[Client, Relay]]:
    """A client that has had an answer, and the relay between it and the gateway."""
    async with gateway_up(control_plane.address) as gateway, Relay(gateway).up() as relay:
        await put_in_force(control_plane, model, 1, "1s")
        async with client_of("gateway", gateway=(relay.address,)) as client:
            assert (await ask(client)).routing_key == "rows.v1"
            yield client, relay


async def failed(work: Coroutine[None, None, Answer]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallError) as caught:
        await work
    return caught.value.code, caught.value.message


@both
async def test_a_frozen_gateway_holds_no_call_beyond_the_timeout(
    control_plane: ControlPlane, model: Model, ask: Ask
) -> None:
    async with answered(control_plane, model, ask) as (client, relay):
        relay.freeze()

        # Without its own deadline, it would end UNAVAILABLE once pings find the connection dead.
        deadline = (grpc.StatusCode.DEADLINE_EXCEEDED, "HomepageRows: no answer within 1250 ms")
        assert await failed(ask(client)) == deadline


async def test_streams_through_a_frozen_gateway_take_the_timeout_from_none(
    control_plane: ControlPlane, model: Model
) -> None:
    async with answered(control_plane, model, streamed) as (client, relay):
        relay.freeze()

        deadline = (grpc.StatusCode.DEADLINE_EXCEEDED, "HomepageRows: no answer within 1250 ms")
        for asks in ([streamed] * 6, [streamed, called]):
            assert set(await asyncio.gather(*(failed(ask(client)) for ask in asks))) == {deadline}


@both
async def test_a_longer_timeout_is_learned_although_no_answer_comes_within_the_old_one(
    control_plane: ControlPlane, model: Model, ask: Ask
) -> None:
    async with answered(control_plane, model, ask) as (client, _):
        await put_in_force(control_plane, model, 2, "30s")
        model.before_answer = lambda: asyncio.sleep(1.5)

        assert (await failed(ask(client)))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await ask(client)).revision == 2


async def test_a_gateways_own_word_on_a_timeout_is_waited_for(control_plane: ControlPlane, model: Model) -> None:
    async with answered(control_plane, model, called) as (client, _):
        model.before_answer = asyncio.Event().wait

        assert await failed(called(client)) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "HomepageRows (rows.v1): no answer within 1000 ms",
        )


async def test_a_stream_that_is_nearly_late_reports_how_it_goes_before_its_first_item(
    control_plane: ControlPlane, model: Model
) -> None:
    async with gateway_up(control_plane.address) as gateway:
        await put_in_force(control_plane, model, 1, "30s")
        its_headers = asyncio.Event()
        model.before_answer = its_headers.wait
        async with open_channel(gateway) as channel:
            request = rank_request()
            request.envelope.use_case, request.envelope.context.caller = "HomepageRows", "homepage"
            stream = ranking_pb2_grpc.RankingStub(channel).RankStream(request, timeout=5)
            reported = AnswerMetadata.of_headers(await stream.initial_metadata())
            its_headers.set()
            items = [item async for item in stream]

    assert reported == AnswerMetadata("model", "rows.v1", 1, 1, "", timeout_s=30)
    assert len(items) == 10


@both
async def test_a_first_call_to_a_frozen_gateway_ends_soon(control_plane: ControlPlane, model: Model, ask: Ask) -> None:
    async with gateway_up(control_plane.address) as gateway, Relay(gateway).up() as relay:
        await put_in_force(control_plane, model, 1, "1s")
        async with client_of("gateway", gateway=(relay.address,)) as client:
            relay.freeze()

            # Without the question before it, it would end once pings find the connection dead.
            reason = "HomepageRows: no gateway has said within 2 s how long a request may take"
            assert await failed(ask(client)) == (grpc.StatusCode.UNAVAILABLE, reason)
    assert not model.seen


async def test_a_first_call_to_a_stopped_gateway_process_ends_soon(mini_lab: Lab) -> None:
    client = open_client("gateway", "homepage", mini_lab.endpoints().clients["homepage"])
    try:
        await client.ready()
        mini_lab.units.pause("gateway-1")

        code, reason = await failed(client.call("ContinueWatchingRanking", rank_request(), CONTEXT))

        assert (code, "no gateway has said within 2 s" in reason) == (grpc.StatusCode.UNAVAILABLE, True)
        mini_lab.units.resume("gateway-1")
        await eventually("it answers again", lambda: answers(client), until=lambda version: version == "v1")
    finally:
        await client.close()


async def answers(client: Client) -> str:
    """The version that answers; empty while none does."""
    try:
        answer = await client.call("ContinueWatchingRanking", rank_request(), CONTEXT)
    except CallError:
        return ""
    return str(answer.response.answered_by.version)
