"""A real gRPC library that routes by itself, at a real control plane: what a publish waits for, and what it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.transport import xds
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.records import Event, Phase
from tests.controlplane.nodes import ControlPlane, Replica, table_of
from tests.parts import Model
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("model")

CLUSTER = "ml-cluster-1"
KEYS = ("cw-ranker.v1", "cw-ranker.v2")


@pytest.fixture
async def model(control_plane: ControlPlane) -> AsyncIterator[Model]:
    """A model that answers, registered by a replica that only plays its part at the control plane."""
    async with Model(*KEYS).up() as model:
        replica = Replica(control_plane.address, CLUSTER, "a")
        replica.state.address = model.address
        await eventually("it is registered", lambda: bool(control_plane.publisher.fleet.membership.members))
        yield model
        await replica.leave()


@asynccontextmanager
async def proxyless(control_plane: ControlPlane, caller: str = "homepage") -> AsyncIterator[grpc.aio.Channel]:
    """Its own node, as a process would be."""
    told = json.dumps(xds.bootstrap(control_plane.address, caller))
    options = (("grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config", told),)
    async with grpc.aio.insecure_channel("xds:///models", options=options) as channel:
        yield channel


async def ask(channel: grpc.aio.Channel, version: str, key: str = "") -> str:
    request = ranking_pb2.RankRequest()
    request.envelope.model_config.CopyFrom(serving_pb2.ModelConfig(model="cw-ranker", version=version))
    metadata = (("x-routing-key", key or f"cw-ranker.{version}"),)
    answer = await ranking_pb2_grpc.RankingStub(channel).Rank(request, metadata=metadata, timeout=5)
    return str(answer.answered_by.version)


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def stored_phases(control_plane: ControlPlane, revision: int) -> set[Phase]:
    return {event.phase for event in control_plane.stored(revision).events}


async def test_a_key_can_be_used_as_soon_as_a_publish_returns_and_is_gone_once_it_is_retired(
    control_plane: ControlPlane,
) -> None:
    await control_plane.publish(table_of({"v1": CLUSTER}))
    async with proxyless(control_plane) as channel:
        assert await ask(channel, "v1") == "v1"
        assert await status_of(ask(channel, "v2")) is grpc.StatusCode.UNAVAILABLE

        await control_plane.publish(table_of({"v2": CLUSTER}, default="cw-ranker@v2"))

        assert await ask(channel, "v2") == "v2"
        stored = control_plane.stored(2)
        assert [each.role for each in stored.acknowledgements] == ["proxyless"]
        await eventually("v1 is retired", lambda: stored_phases(control_plane, 2) >= {Phase.RETIRED})
        node = next(iter(control_plane.publisher.fleet.store.subscribers))
        await eventually(
            "the route to it is gone",
            lambda: node.applied == control_plane.publisher.fleet.store.subscribers.generation,
        )
        assert await status_of(ask(channel, "v1")) is grpc.StatusCode.UNAVAILABLE
        assert await ask(channel, "v2") == "v2"


async def test_nothing_fails_while_versions_go_back_and_forth(control_plane: ControlPlane) -> None:
    await control_plane.publish(table_of({"v1": CLUSTER}))
    in_force, done = "v1", asyncio.Event()

    async def use() -> int:
        answers = 0
        while not done.is_set():
            wanted = in_force
            assert await ask(channel, wanted) == wanted
            answers += 1
        return answers

    async with proxyless(control_plane) as channel:
        users = [asyncio.create_task(use()) for _ in range(4)]
        for number in range(10):
            version = ("v2", "v1")[number % 2]
            await control_plane.publish(table_of({version: CLUSTER}, default=f"cw-ranker@{version}"))
            in_force = version
            await asyncio.sleep(0)
        done.set()
        assert sum(await asyncio.gather(*users)) > 0


async def test_a_caller_loses_a_route_once_the_rules_that_needed_it_are_retired_and_not_before(
    control_plane: ControlPlane,
) -> None:
    both, fleet = {"v1": CLUSTER, "v2": CLUSTER}, control_plane.publisher.fleet
    await control_plane.publish(table_of(both))
    await control_plane.publish(table_of(both, default="cw-ranker@v2"))
    assert fleet.store.listener("homepage").routes == set(KEYS)

    await eventually("the old rules are retired", lambda: stored_phases(control_plane, 2) >= {Phase.RETIRED})

    assert fleet.store.listener("homepage").routes == {"cw-ranker.v2"}
    for _ in range(3):  # tables that nobody acts by are not kept
        await control_plane.publish(table_of(both, default="cw-ranker@v2"))
    await eventually("all are retired", lambda: stored_phases(control_plane, 5) >= {Phase.RETIRED})
    assert len(fleet.live) == 1


async def test_a_caller_gets_no_route_to_what_it_may_not_use(control_plane: ControlPlane) -> None:
    await control_plane.publish(table_of({"v1": CLUSTER}))
    async with proxyless(control_plane, "payments") as channel:
        assert await status_of(ask(channel, "v1")) is grpc.StatusCode.UNAVAILABLE


async def test_a_node_that_connects_before_the_first_revision_is_served_by_it(control_plane: ControlPlane) -> None:
    async with proxyless(control_plane) as channel:
        assert await status_of(ask(channel, "v1")) is grpc.StatusCode.UNAVAILABLE

        await control_plane.publish(table_of({"v1": CLUSTER}))

        assert await ask(channel, "v1") == "v1"


def _settled_ns(control_plane: ControlPlane, revision: int, events: Iterable[Event]) -> int:
    """How long rules waited after the last acknowledgement, nanoseconds."""
    known_ns = max(each.at_ns for each in control_plane.stored(revision).acknowledgements)
    return next(each.at_ns for each in events if each.phase is Phase.ENDPOINTS) - known_ns


class TestANewKeySettles:
    """Between a node's word that it knows the way and the first request there."""

    @pytest.fixture
    def timeouts(self) -> Timeouts:
        return Timeouts(load=1.0, acknowledge=1.0, settle=0.5, retire=60.0)

    async def test_rules_wait_for_it_after_the_last_acknowledgement(self, control_plane: ControlPlane) -> None:
        async with proxyless(control_plane) as channel:
            assert await status_of(ask(channel, "v1")) is grpc.StatusCode.UNAVAILABLE

            events = await control_plane.publish(table_of({"v1": CLUSTER}))

        assert _settled_ns(control_plane, 1, events) >= 500_000_000

    async def test_neither_a_move_nor_a_known_key_waits(self, control_plane: ControlPlane) -> None:
        await control_plane.replica("ml-cluster-2", "b")
        await control_plane.publish(table_of({"v1": CLUSTER, "v2": CLUSTER}))
        publisher = control_plane.publisher
        publisher.timeouts = replace(publisher.timeouts, settle=3_600.0)
        async with proxyless(control_plane) as channel:
            assert await ask(channel, "v1") == "v1"

            await control_plane.publish(table_of({"v1": "ml-cluster-2", "v2": CLUSTER}))
            await control_plane.publish(table_of({"v2": CLUSTER}, default="cw-ranker@v2"))
            await control_plane.publish(table_of({"v1": "ml-cluster-2"}))

    async def test_rules_wait_for_a_key_that_comes_back_elsewhere_before_it_is_retired(
        self, control_plane: ControlPlane
    ) -> None:
        """By the table in force it was nowhere, so that an answer from where it was earlier would be wrong."""
        await control_plane.replica("ml-cluster-2", "b")
        await control_plane.publish(table_of({"v1": CLUSTER, "v2": CLUSTER}))
        async with proxyless(control_plane) as channel:
            assert await ask(channel, "v1") == "v1"
            await control_plane.publish(table_of({"v2": CLUSTER}, default="cw-ranker@v2"))

            events = await control_plane.publish(table_of({"v1": "ml-cluster-2"}))

        assert _settled_ns(control_plane, 3, events) >= 500_000_000

    async def test_where_nobody_speaks_xds_nobody_waits(self, control_plane: ControlPlane) -> None:
        publisher = control_plane.publisher
        publisher.timeouts = replace(publisher.timeouts, settle=3_600.0)

        await control_plane.publish(table_of({"v1": CLUSTER}))
