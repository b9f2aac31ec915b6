"""A replica that reloads, and one that closes its connections."""

from __future__ import annotations

from contextlib import suppress

import grpc.aio
import pytest

from models.proto.control.v1 import stub_pb2
from tests.models.replicas import ControlPlane, StartReplica, rank_request
from tests.waiting import eventually


async def test_a_replica_that_reloads_holds_nothing_until_it_has_warmed_up(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica()
    await control_plane.load(1, "rows.v1", "rows.v2")

    await started.control.SetBehaviour(stub_pb2.Behaviour(warm_up_ms=600_000))
    await started.control.Reload(stub_pb2.ReloadRequest())
    await control_plane.holds()

    await started.control.SetBehaviour(stub_pb2.Behaviour(warm_up_ms=0))
    await started.control.Reload(stub_pb2.ReloadRequest())
    await control_plane.holds("rows.v1", "rows.v2", revision=1)


async def test_churn_closes_connections_under_requests_in_flight(
    control_plane: ControlPlane,
    start_replica: StartReplica,
) -> None:
    started = await start_replica("--latency", "constant:600000")
    await control_plane.load(1, "rows.v1")
    call = started.ranking.Rank(rank_request("rows", "v1"))
    await eventually("it is in flight", lambda: started.replica.handler.in_flight)

    await started.control.SetBehaviour(stub_pb2.Behaviour(churn_ms=20))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    # The registration is a connection of the replica's own making, and stays.
    assert control_plane.registrations == 1

    async def turned_back() -> bool:
        with suppress(grpc.aio.AioRpcError):
            await started.control.SetBehaviour(stub_pb2.Behaviour(churn_ms=0), wait_for_ready=True)
            return True
        return False

    await eventually("it no longer closes connections", turned_back)
    counts = await started.control.GetCounts(stub_pb2.GetCountsRequest())
    assert counts.closed_connections >= 1
    again = await started.control.GetCounts(stub_pb2.GetCountsRequest())
    assert again.closed_connections == counts.closed_connections
