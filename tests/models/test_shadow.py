"""Copies of requests, which ask for no place and no attention."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from models.proto.control.v1 import stub_pb2
from tests.models.replicas import RunningReplica, rank_request
from tests.waiting import eventually

KEY = "x-routing-key"


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
    [copies] = (await replica.control.Copies(stub_pb2.CopiesRequest())).versions
    assert (copies.routing_key, copies.forgotten) == ("rows.v2", 0)
    assert list(copies.request_ids) == ["r0", "r1", "r2", "streamed"]


async def test_a_copy_of_a_version_that_is_not_held_is_refused_and_not_remembered(replica: RunningReplica) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows@v9.*is not loaded"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=((KEY, "rows.v9"), ("x-shadow", "copy")))

    assert not (await replica.control.Copies(stub_pb2.CopiesRequest())).versions


async def test_copies_take_no_place_from_requests(
    replica: RunningReplica,
) -> None:
    latency = stub_pb2.ConstantLatency(ms=60_000)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=latency, concurrency_limit=1))
    as_copy = ((KEY, "rows.v2"), ("x-shadow", "copy"))
    slow = replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)
    copies = replica.replica.handler.shadows
    await eventually("the copy has come", lambda: copies.count == 1)
    with pytest.raises(grpc.aio.AioRpcError, match="concurrency_limit"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)

    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    assert (await replica.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"
    slow.cancel()
