"""Whom a stub refuses, with which status and which words; and what it heard of who asks."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import grpc
import grpc.aio
import pytest

from models.proto.control.v1 import stub_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from tests.models.replicas import RunningReplica, rank_request
from tests.waiting import eventually

KEY = "x-routing-key"


@pytest.mark.parametrize(
    ("body", "keys", "code"),
    [
        pytest.param(("rows", "v1"), ("rows.v2",), grpc.StatusCode.FAILED_PRECONDITION, id="tear"),
        pytest.param(("rows", "v3"), (), grpc.StatusCode.FAILED_PRECONDITION, id="not loaded"),
        pytest.param(("", ""), (), grpc.StatusCode.FAILED_PRECONDITION, id="names nothing"),
        pytest.param(("rows", "v1"), ("rows.v1", "rows.v2"), grpc.StatusCode.INVALID_ARGUMENT, id="two keys"),
    ],
)
async def test_a_refusal_has_its_status_on_both_apis_and_leaves_nothing_in_flight(
    replica: RunningReplica,
    body: tuple[str, str],
    keys: tuple[str, ...],
    code: grpc.StatusCode,
) -> None:
    metadata = tuple((KEY, key) for key in keys)

    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await replica.ranking.Rank(rank_request(*body), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as stream:
        [item async for item in replica.ranking.RankStream(rank_request(*body), metadata=metadata)]

    assert (code, code) == (unary.value.code(), stream.value.code())
    assert unary.value.details() == stream.value.details()
    assert replica.replica.handler.in_flight == 0


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\x1b[2J", "é"])
async def test_a_text_that_could_forge_a_log_line_is_refused(replica: RunningReplica, value: str) -> None:
    by_id, by_model, by_tenant = (rank_request("rows", "v1") for _ in range(3))
    by_id.envelope.request_id = by_model.envelope.model_config.model = by_tenant.envelope.context.tenant = value
    refused = [by_id, by_model, by_tenant] if value != "é" else [by_id]

    for request in refused:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await replica.ranking.Rank(request, metadata=((KEY, "rows.v1"),))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (caught.value.details() or "\n").isprintable()


async def test_errors_are_internal_and_name_the_key(replica: RunningReplica) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(error_rate=1))

    with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1") as unary:
        await replica.ranking.Rank(rank_request("rows", "v1"))
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1") as stream:
        [item async for item in replica.ranking.RankStream(rank_request("rows", "v1"))]

    assert [unary.value.code(), stream.value.code()] == [grpc.StatusCode.INTERNAL] * 2


async def test_over_the_concurrency_limit_is_refused_with_key_and_limit_and_the_rest_is_served(
    replica: RunningReplica,
) -> None:
    slow = stub_pb2.Behaviour(concurrency_limit=2, constant=stub_pb2.ConstantLatency(ms=600_000))
    await replica.control.SetBehaviour(slow)
    calls = [replica.ranking.Rank(rank_request("rows", "v1")) for _ in range(2)]
    running = [asyncio.ensure_future(call) for call in calls]
    await eventually("two in flight", lambda: replica.replica.handler.in_flight, until=lambda n: n == 2)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replica.ranking.Rank(rank_request("rows", "v1"))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "rows.v1" in (refused.value.details() or "")
    assert "2 requests" in (refused.value.details() or "")
    for call in calls:
        call.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await eventually("cancelled calls are no longer in flight", lambda: not replica.replica.handler.in_flight)


async def test_a_queue_serves_in_order_of_arrival_and_refuses_the_rest(replica: RunningReplica) -> None:
    slow = stub_pb2.ConstantLatency(ms=600_000)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(concurrency_limit=1, queue_limit=2, constant=slow))
    first = replica.ranking.Rank(rank_request("rows", "v1"))
    served = asyncio.ensure_future(first)
    await eventually("one is served", lambda: replica.replica.handler.in_flight, until=lambda n: n == 1)
    given_up = replica.ranking.Rank(rank_request("rows", "v1"))
    left = asyncio.ensure_future(given_up)
    await eventually("one waits", lambda: replica.replica.handler.in_flight, until=lambda n: n == 2)
    stream = replica.ranking.RankStream(rank_request("rows", "v1"))
    item = asyncio.ensure_future(stream.read())
    await eventually("two wait", lambda: replica.replica.handler.in_flight, until=lambda n: n == 3)

    with pytest.raises(grpc.aio.AioRpcError, match="2 wait, its queue_limit") as refused:
        await replica.ranking.Rank(rank_request("rows", "v1"))
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    given_up.cancel()
    await eventually("who gives up leaves the queue", lambda: replica.replica.handler.in_flight, until=lambda n: n == 2)
    first.cancel()

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    answer = await item
    assert isinstance(answer, ranking_pb2.RankStreamResponse)
    assert answer.title.id
    await asyncio.gather(served, left, return_exceptions=True)
    stream.cancel()
    await eventually("nothing is in flight", lambda: not replica.replica.handler.in_flight)


async def test_one_tenants_flood_is_refused_by_name_while_others_are_served(replica: RunningReplica) -> None:
    def of(tenant: str) -> ranking_pb2.RankRequest:
        request = rank_request("rows", "v1")
        request.envelope.use_case = "HomepageRows"
        request.envelope.context.tenant = tenant
        return request

    slow = stub_pb2.Behaviour(tenant_concurrency_limit=2, constant=stub_pb2.ConstantLatency(ms=600_000))
    await replica.control.SetBehaviour(slow)
    unary, stream = replica.ranking.Rank(of("noisy")), replica.ranking.RankStream(of("noisy"))
    running = [asyncio.ensure_future(unary), asyncio.ensure_future(stream.read())]
    await eventually("two in flight", lambda: replica.replica.handler.in_flight, until=lambda n: n == 2)

    for refused in (replica.ranking.Rank(of("noisy")), replica.ranking.RankStream(of("noisy")).read()):
        with pytest.raises(grpc.aio.AioRpcError) as over:
            await refused
        assert over.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for word in ("'noisy'", "'HomepageRows'", "rows.v1", "2 requests of one tenant", "tenant_concurrency_limit"):
            assert word in (over.value.details() or "")
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    for quiet in ("quiet", ""):
        assert (await replica.ranking.Rank(of(quiet))).titles

    unary.cancel()
    stream.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await eventually("cancelled calls are no longer in flight", lambda: not replica.replica.handler.in_flight)
    assert (await replica.ranking.Rank(of("noisy"))).titles


@pytest.mark.parametrize("origin", ["REAL", "ARTIFICIAL", "UNSPECIFIED"])
async def test_every_answer_says_which_origin_and_tenant_the_model_saw(replica: RunningReplica, origin: str) -> None:
    number = serving_pb2.TrafficOrigin.Value(f"TRAFFIC_ORIGIN_{origin}")
    request = rank_request("rows", "v1")
    request.envelope.context.traffic_origin = number
    request.envelope.context.tenant = "ads"
    payment = fraud_pb2.ScoreRequest(envelope=request.envelope)
    payment.envelope.model_config.model = "fraud"

    seen = [
        (await replica.ranking.Rank(request)).answered_by,
        (await replica.fraud.Score(payment)).answered_by,
        *[item.answered_by async for item in replica.ranking.RankStream(request)],
    ]

    assert {(by.HasField("traffic_origin"), by.traffic_origin, by.HasField("tenant"), by.tenant) for by in seen} == {
        (True, number, True, "ads")
    }


@pytest.mark.parametrize(("header", "tenant"), [("ads", "kids"), ("ads", ""), ("%", "ads")])
async def test_a_header_that_names_another_tenant_than_the_body_is_refused(
    replica: RunningReplica, header: str, tenant: str
) -> None:
    request = rank_request("rows", "v1")
    request.envelope.context.tenant = tenant

    with pytest.raises(grpc.aio.AioRpcError, match="name the same tenant in both") as refused:
        await replica.ranking.Rank(request, metadata=(("x-tenant", header),))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert replica.replica.handler.in_flight == 0
    right = quote(tenant, safe="") or "%"
    assert (await replica.ranking.Rank(request, metadata=(("x-tenant", right),))).titles


async def test_an_origin_that_does_not_exist_is_refused(replica: RunningReplica) -> None:
    request = rank_request("rows", "v1")
    request.envelope.context.traffic_origin = 7  # type: ignore[assignment]  # protobuf lets it through

    for call in (replica.ranking.Rank(request), replica.ranking.RankStream(request).read()):
        with pytest.raises(grpc.aio.AioRpcError, match=r"traffic_origin: 7 is not known; write 'real'") as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert replica.replica.handler.in_flight == 0
