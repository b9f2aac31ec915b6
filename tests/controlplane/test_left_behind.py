"""Nodes that refuse or do not answer: a publish goes on without them, and they cannot act on the rules before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.rpc import status_pb2

from lab.client.admin_values import Node
from lab.errors import PublishError
from lab.routing.document import RouteTable
from lab.transport import open_channel
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.records import Event, Phase
from services.controlplane.registry.revisions import Registry
from services.controlplane.xds.resources import LISTENER
from services.rules import RuleSet, Subscriber
from tests.controlplane.nodes import ControlPlane, Replica, running, table_of
from tests.waiting import eventually

CLUSTER = "ml-cluster-1"
BOTH = {"v1": CLUSTER, "v2": CLUSTER}
V2 = "cw-ranker@v2"


class Resolver:
    """The lab's own subscriber, with what it puts in force.

    Attributes:
        in_force: the default of the use case; empty without rules.
        before: called before rules are put in force, to refuse or delay them.
    """

    def __init__(self, control_plane: ControlPlane, node: str) -> None:
        self.in_force = ""
        self.before: Callable[[str], Awaitable[None]] | None = None
        subscriber = Subscriber(node=node, role="resolver", control_plane=control_plane.address, apply=self._apply)
        self._task = asyncio.create_task(subscriber.run())

    async def _apply(self, rules: RuleSet) -> None:
        default = next((each.default.key for each in rules.router.use_cases.values()), "")
        if self.before is not None:
            await self.before(default)
        self.in_force = default

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def resolver(control_plane: ControlPlane, node: str) -> AsyncIterator[Resolver]:
    found = Resolver(control_plane, node)
    connected = control_plane.publisher.fleet.feed.subscribers
    await eventually(f"{node} is connected", lambda: any(each.node == node for each in connected))
    yield found
    await found.stop()


async def nodes(control_plane: ControlPlane) -> dict[str, Node]:
    status = await control_plane.admin(lambda it: it.status())
    return {each.node: each for each in (*status.nodes, *status.away)}


def converged(events: list[Event]) -> Event:
    [event] = [each for each in events if each.phase is Phase.CONVERGED]
    return event


@asynccontextmanager
async def mute(control_plane: ControlPlane, error: str = "") -> AsyncIterator[None]:
    """A caller's own xDS client that acknowledges nothing, or refuses everything."""
    async with open_channel(control_plane.address) as channel:
        stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        node = base_pb2.Node(id="mute", cluster="homepage")
        asking = discovery_pb2.DiscoveryRequest(node=node, type_url=LISTENER, resource_names=["models"])
        await stream.write(asking)

        async def refuse() -> None:
            async for response in stream:
                if error:
                    asking.response_nonce = response.nonce
                    asking.error_detail.CopyFrom(status_pb2.Status(message=error))
                    await stream.write(asking)

        refusing = asyncio.create_task(refuse())
        connected = control_plane.publisher.fleet.store.subscribers
        await eventually("it is connected", lambda: bool(len(connected)))
        yield
        refusing.cancel()
        await asyncio.gather(refusing, return_exceptions=True)
    await eventually("it has gone", lambda: not len(connected))


async def test_a_resolver_that_alone_refuses_has_no_rules_until_it_accepts_some(control_plane: ControlPlane) -> None:
    await control_plane.replica(CLUSTER, "a")
    async with resolver(control_plane, "search-resolver") as well, resolver(control_plane, "homepage-resolver") as bad:
        await control_plane.publish(table_of(BOTH))

        async def refuse(default: str) -> None:
            if default == "cw-ranker.v2":
                raise ValueError("cannot compile [/v2]")

        bad.before = refuse
        events = await control_plane.publish(table_of(BOTH, default=V2))

        assert (well.in_force, bad.in_force) == ("cw-ranker.v2", "")
        assert converged(events).detail == "left behind: resolver homepage-resolver: cannot compile [/v2]"
        listed = await nodes(control_plane)
        assert (listed["homepage-resolver"].behind, listed["search-resolver"].behind) == (True, False)
        assert "cannot compile [/v2]" in listed["homepage-resolver"].error

        # It is not waited for, and gets what is published next.
        events = await control_plane.publish(table_of(BOTH))

        await eventually("it has caught up", lambda: bad.in_force == "cw-ranker.v1")
        assert not any(each.behind for each in (await nodes(control_plane)).values())


async def test_a_refusing_resolver_that_keeps_its_rules_makes_the_publish_fail(control_plane: ControlPlane) -> None:
    await control_plane.replica(CLUSTER, "a")
    async with resolver(control_plane, "search-resolver") as well, resolver(control_plane, "homepage-resolver") as bad:
        await control_plane.publish(table_of(BOTH))
        going_on = asyncio.Event()

        async def refuse(default: str) -> None:
            if default == "cw-ranker.v2":
                raise ValueError("cannot compile")
            await going_on.wait()  # as if it could not drop its rules

        bad.before = refuse
        with pytest.raises(
            PublishError, match="homepage-resolver refused: cannot compile; it has not dropped its rules"
        ):
            await control_plane.publish(table_of(BOTH, default=V2))

        assert (well.in_force, control_plane.publisher.revision) == ("cw-ranker.v1", 1)
        assert (await nodes(control_plane))["homepage-resolver"].behind
        going_on.set()
        await eventually("it has caught up", lambda: not control_plane.publisher.fleet.feed.subscribers.away)


async def test_models_refuse_what_a_silent_resolver_decides_until_it_has_caught_up(control_plane: ControlPlane) -> None:
    """Its callers hold leases, which nobody else can end."""
    replica = await control_plane.replica(CLUSTER, "a")
    async with (
        resolver(control_plane, "search-resolver") as well,
        resolver(control_plane, "homepage-resolver") as stuck,
    ):
        await control_plane.publish(table_of(BOTH))
        going_on = asyncio.Event()

        async def hang(_default: str) -> None:
            await going_on.wait()

        stuck.before = hang
        events = await control_plane.publish(table_of(BOTH, default=V2))

        assert converged(events).detail == "left behind: resolver homepage-resolver: no answer within 1 s"
        assert (well.in_force, replica.suspended) == ("cw-ranker.v2", {"homepage"})
        found = (await nodes(control_plane))["homepage-resolver"]
        assert (found.behind, found.error) == (True, "no answer within 1 s")
        await control_plane.publish(table_of(BOTH))
        assert replica.suspended == {"homepage"}
        going_on.set()
        await eventually("it has caught up", lambda: not replica.suspended)
        assert stuck.in_force == "cw-ranker.v1"


async def test_models_refuse_what_a_gateway_decides_that_has_left_until_it_is_back(control_plane: ControlPlane) -> None:
    """It may have been frozen for longer than its connection lives."""
    replica = await control_plane.replica(CLUSTER, "a")
    await control_plane.follower("homepage-resolver")
    gone = await control_plane.follower("gateway-1", with_endpoints=True)
    await control_plane.publish(table_of(BOTH))
    await gone.leave()
    subscribers = control_plane.publisher.fleet.feed.subscribers
    await eventually("it has left", lambda: len(subscribers) == 1)

    await control_plane.publish(table_of(BOTH, default=V2))

    assert replica.suspended == {"gateway-1"}
    back = await control_plane.follower("gateway-1", with_endpoints=True)
    await eventually("it has caught up", lambda: not replica.suspended)
    assert b'"default":"cw-ranker@v2"' in back.updates[-1].use_cases[0].document


async def test_a_publish_fails_if_a_model_does_not_confirm_whom_it_refuses(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica(CLUSTER, "a")
    await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(BOTH))
    stuck = await control_plane.follower("gateway-1", with_endpoints=True)
    stuck.is_deaf = replica.is_deaf = True

    with pytest.raises(PublishError, match=r"their requests are not refused within 2.5 s by \['a'\]"):
        await control_plane.publish(table_of(BOTH, default=V2))

    assert control_plane.publisher.revision == 1


async def test_a_control_plane_that_restarts_suspends_a_silent_node_again(tmp_path: Path, timeouts: Timeouts) -> None:
    registry = Registry(tmp_path / "registry.sqlite")
    async with running(registry, timeouts) as control_plane:
        await control_plane.replica(CLUSTER, "a")
        await control_plane.follower("search-resolver")
        await control_plane.publish(table_of(BOTH))
        (await control_plane.follower("homepage-resolver")).is_deaf = True
        await control_plane.publish(table_of(BOTH, default=V2))
    async with running(registry, timeouts) as control_plane:
        replica = await control_plane.replica(CLUSTER, "a")
        await eventually("it refuses what it decides", lambda: replica.suspended == {"homepage"})
        await control_plane.follower("homepage-resolver")
        await eventually("it has caught up", lambda: not replica.suspended)
    registry.close()


@pytest.mark.parametrize("name", ["shared-resolver", "resolver-7"])
async def test_a_silent_resolver_of_unknown_callers_makes_the_publish_fail(
    name: str, control_plane: ControlPlane
) -> None:
    await control_plane.replica(CLUSTER, "a")
    await control_plane.follower("gateway-1", with_endpoints=True)
    await control_plane.publish(table_of(BOTH))
    (await control_plane.follower(name)).is_deaf = True

    with pytest.raises(PublishError, match=f"no answer within 1 s from resolver {name}"):
        await control_plane.publish(table_of(BOTH, default=V2))


@pytest.mark.parametrize(("error", "reason"), [("", "no answer within 1 s"), ("no", "no")])
async def test_a_callers_own_node_stops_no_publish(error: str, reason: str, control_plane: ControlPlane) -> None:
    await control_plane.replica(CLUSTER, "a")
    await control_plane.publish(table_of({"v1": CLUSTER}))
    async with mute(control_plane, error):
        events = await control_plane.publish(table_of(BOTH, default=V2))

        assert converged(events).detail == f"left behind: proxyless mute: {reason}"
        found = (await nodes(control_plane))["mute"]
        assert (found.behind, found.error) == (True, reason)
        assert control_plane.publisher.revision == 2
        # It keeps only one publish waiting.
        events = await control_plane.publish(table_of(BOTH))
        assert events[-1].at_ns - events[0].at_ns < 1_000_000_000


async def test_a_node_that_refused_before_and_is_sent_nothing_new_keeps_its_reason(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    subscribers = control_plane.publisher.fleet.store.subscribers
    async with mute(control_plane, "no [/such] filter"):
        await eventually("it has refused", lambda: any(each.error for each in subscribers))

        events = await control_plane.publish(table_of({"v1": "ml-cluster-2"}))

    assert converged(events).detail == "left behind: proxyless mute: no [/such] filter"


async def test_a_node_of_the_labs_own_that_leaves_while_it_is_behind_is_listed_until_it_is_back(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica(CLUSTER, "a")
    deaf = await control_plane.follower("homepage-resolver")
    deaf.is_deaf = True
    with pytest.raises(PublishError):
        await control_plane.publish(table_of(BOTH))
    await deaf.leave()
    subscribers = control_plane.publisher.fleet.feed.subscribers
    await eventually("it has left", lambda: not len(subscribers))

    status = await control_plane.admin(lambda it: it.status())
    assert (status.nodes, [(each.node, each.behind) for each in status.away]) == ((), [("homepage-resolver", True)])

    async with resolver(control_plane, "homepage-resolver"):
        await eventually("it has caught up", lambda: not subscribers.behind_by_now)


async def test_no_replica_answers_a_left_behind_node_where_a_version_was_before(control_plane: ControlPlane) -> None:
    old = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    async with mute(control_plane):
        await control_plane.publish(table_of({"v1": "ml-cluster-2"}))

        assert list(old.state.loaded) == []


def loads(replica: Replica) -> list[set[str]]:
    """The keys of each assignment that the replica gets from now on."""
    seen: list[set[str]] = []
    replica.on_assignment = lambda: seen.append(set(replica.granted))
    return seen


async def moved_with_a_node_left_behind(control_plane: ControlPlane, *, before: RouteTable | None = None) -> Replica:
    """The replica at the old place of the version, just after it has moved."""
    old = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    for table in filter(None, (table_of({"v1": "ml-cluster-1"}), before)):
        await control_plane.publish(table)
    async with mute(control_plane):
        await control_plane.publish(MOVED)
    assert "cw-ranker.v1" not in old.state.loaded
    return old


MOVED = table_of({"v1": "ml-cluster-2"})
OTHER = {"v2": "ml-cluster-1"}


async def test_an_earlier_retirement_that_waits_for_the_move_loads_nothing_at_the_old_place(
    control_plane: ControlPlane,
) -> None:
    old = await moved_with_a_node_left_behind(control_plane, before=table_of({"v1": "ml-cluster-1"} | OTHER))
    seen = loads(old)

    def retired() -> bool:
        return any(each.phase is Phase.RETIRED for each in control_plane.stored(3).events)

    await eventually("the tables before have retired", retired)
    assert not any("cw-ranker.v1" in each for each in seen)


async def test_the_publish_after_a_move_loads_nothing_at_the_old_place(tmp_path: Path, timeouts: Timeouts) -> None:
    registry = Registry(tmp_path / "registry.sqlite")
    async with running(registry, replace(timeouts, retire=60.0)) as control_plane:
        old = await moved_with_a_node_left_behind(control_plane)
        seen = loads(old)
        await control_plane.publish(table_of({"v1": "ml-cluster-2"} | OTHER))
        assert list(old.state.loaded) == ["cw-ranker.v2"]
        assert seen == [{"cw-ranker.v2"}]
        # Back to where it was: it is wanted there again.
        await control_plane.publish(table_of({"v1": "ml-cluster-1"} | OTHER))
        assert sorted(old.state.loaded) == ["cw-ranker.v1", "cw-ranker.v2"]
    registry.close()


async def test_a_control_plane_that_restarts_after_a_move_loads_nothing_at_the_old_place(
    tmp_path: Path, timeouts: Timeouts
) -> None:
    registry = Registry(tmp_path / "registry.sqlite")
    async with running(registry, replace(timeouts, retire=60.0)) as control_plane:
        await moved_with_a_node_left_behind(control_plane)
    async with running(registry, replace(timeouts, retire=60.0)) as control_plane:
        new = await control_plane.replica("ml-cluster-2", "bb")
        old = await control_plane.replica("ml-cluster-1", "a")
        await eventually("replicas have their assignments", lambda: "cw-ranker.v1" in new.state.loaded)
        await control_plane.publish(table_of({"v1": "ml-cluster-2"} | OTHER))
        assert list(old.state.loaded) == ["cw-ranker.v2"]
    registry.close()


async def test_a_move_fails_if_the_version_cannot_be_unloaded_where_a_left_behind_node_sends_requests(
    control_plane: ControlPlane,
) -> None:
    old = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    async with mute(control_plane):
        old.is_deaf = True

        with pytest.raises(
            PublishError, match=r"not unloaded within 1 s: replica a of ml-cluster-1 still holds cw-ranker\.v1"
        ):
            await control_plane.publish(table_of({"v1": "ml-cluster-2"}))

    assert control_plane.publisher.revision == 1
