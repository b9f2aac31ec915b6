"""Copies of requests, which ask for no place and no attention."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from models.proto.control.v1 import stub_pb2
from tests.models.replicas import RunningReplica, rank_request
from tests.waiting import eventually

KEY = "x-routing-key"


async def received(replica: RunningReplica) -> list[stub_pb2.Arrival]:
    """What it says that it received."""
    responses = replica.control.Arrivals(stub_pb2.ArrivalsRequest())
    return [arrival async for response in responses for arrival in response.arrivals]


async def test_a_copy_is_served_by_its_key_remembered_and_not_counted_as_a_request(replica: RunningReplica) -> None:
    request = rank_request("rows", "v1")
    as_copy = ((KEY, "rows.v2"), ("x-shadow", "copy"))
    for number in range(3):
        request.envelope.request_id = f"r{number}"
        assert (await replica.ranking.Rank(request, metadata=as_copy)).answered_by.version == "v2"
    request.envelope.request_id = "streamed"
    assert {each.answered_by.version async for each in replica.ranking.RankStream(request, metadata=as_copy)} == {"v2"}
    with pytest.raises(grpc.aio.AioRpcError, match="tear"):
        await replica.ranking.Rank(request, metadata=((KEY, "rows.v2"),))
    with pytest.raises(grpc.aio.AioRpcError, match="tear"):
        await replica.ranking.Rank(request, metadata=((KEY, "rows.v2"), ("x-shadow", "original")))

    counts = await replica.control.GetCounts(stub_pb2.GetCountsRequest())
    assert (counts.requests, counts.tears, counts.copies) == (2, 2, 4)
    arrivals = await received(replica)
    assert [(each.request_id, each.status) for each in arrivals if each.is_copy] == [
        *((f"r{number}", "OK") for number in range(3)),
        ("streamed", "OK"),
    ]
    assert [(each.routing_key, each.status) for each in arrivals if not each.is_copy] == [
        ("rows.v2", "FAILED_PRECONDITION")
    ] * 2


async def test_a_copy_of_a_version_that_is_not_held_is_refused_and_not_counted(replica: RunningReplica) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows@v9.*is not loaded"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=((KEY, "rows.v9"), ("x-shadow", "copy")))

    assert [(each.routing_key, each.status) for each in await received(replica)] == [("rows.v9", "FAILED_PRECONDITION")]
    assert not (await replica.control.GetCounts(stub_pb2.GetCountsRequest())).copies


async def test_copies_take_no_place_from_requests(
    replica: RunningReplica,
) -> None:
    latency = stub_pb2.ConstantLatency(ms=60_000)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=latency, concurrency_limit=1))
    as_copy = ((KEY, "rows.v2"), ("x-shadow", "copy"))
    slow = replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)
    handler = replica.replica.handler
    await eventually("the copy has come", lambda: handler.copies == 1)
    with pytest.raises(grpc.aio.AioRpcError, match="concurrency_limit"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)

    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    assert (await replica.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"
    slow.cancel()
