"""One stream that registers the replicas of many clusters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.transport import open_channel
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc
from tests.controlplane.nodes import ControlPlane, table_of
from tests.waiting import eventually

CLUSTERS = ("ml-cluster-1", "ml-cluster-2", "ml-cluster-3")


@asynccontextmanager
async def host(control_plane: ControlPlane) -> AsyncIterator[list[dict[str, list[str]]]]:
    """Loads whatever it is told; gives what it was told, cluster → keys, one entry a message."""
    told: list[dict[str, list[str]]] = []
    reports: asyncio.Queue[replicas_pb2.HostReport] = asyncio.Queue()

    def report(cluster: str, revision: int = 0, loaded: tuple[str, ...] = ()) -> replicas_pb2.ReplicaReport:
        return replicas_pb2.ReplicaReport(
            cluster=cluster, replica=f"{cluster}-a", address="127.1.0.1:1", revision=revision, loaded=loaded
        )

    async def sending() -> AsyncIterator[replicas_pb2.HostReport]:
        yield replicas_pb2.HostReport(replicas=[report(each) for each in CLUSTERS])
        while True:
            try:
                yield await asyncio.wait_for(reports.get(), 0.2)
            except TimeoutError:
                yield replicas_pb2.HostReport()

    async def serve() -> None:
        async with open_channel(control_plane.address) as channel:
            async for assignment in replicas_pb2_grpc.ReplicasStub(channel).RegisterHost(sending()):
                keys = {each.cluster: [one.routing_key for one in each.versions] for each in assignment.clusters}
                told.append(keys)
                answers = [report(cluster, assignment.revision, tuple(held)) for cluster, held in keys.items()]
                reports.put_nowait(replicas_pb2.HostReport(replicas=answers))

    task = asyncio.create_task(serve())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_only_changed_assignments_are_sent(control_plane: ControlPlane) -> None:
    members = control_plane.publisher.fleet.membership
    async with host(control_plane) as told:
        await eventually("all are registered", lambda: len(members.members) == len(CLUSTERS))
        await control_plane.publish(table_of({"v1": "ml-cluster-1", "v2": "ml-cluster-2"}))
        assert told == [{"ml-cluster-1": ["cw-ranker.v1"], "ml-cluster-2": ["cw-ranker.v2"], "ml-cluster-3": []}]

        await control_plane.publish(table_of({"v1": "ml-cluster-1", "v2": "ml-cluster-3"}))

        assert told[1] == {"ml-cluster-3": ["cw-ranker.v2"]}
        await eventually("what moved away is unloaded", lambda: len(told) > 2)
        assert told[2] == {"ml-cluster-2": []}
        assert members.addresses("ml-cluster-1", "cw-ranker.v1") == ["127.1.0.1:1"]

    await eventually("all have gone with their stream", lambda: not members.members)


async def test_a_replica_with_a_stream_of_its_own_is_assigned_versions_and_stays(control_plane: ControlPlane) -> None:
    members = control_plane.publisher.fleet.membership
    async with host(control_plane):
        await eventually("all are registered", lambda: len(members.members) == len(CLUSTERS))
        await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
        await control_plane.replica("ml-cluster-1", "ml-cluster-1-a")

    await eventually("only it is left", lambda: [each.replica for each in members.members] == ["ml-cluster-1-a"])
    await eventually("it has loaded", lambda: bool(members.addresses("ml-cluster-1", "cw-ranker.v1")))
