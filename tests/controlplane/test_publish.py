from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2

from lab.errors import PublishError, StaleRevisionError
from lab.routing.document import RouteTable
from lab.transport import open_channel
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from services.controlplane.registry.records import Phase
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, Resource
from tests.controlplane.nodes import ControlPlane, table_of
from tests.waiting import eventually

KEY = "cw-ranker.v1"
ON_1 = {"v1": "ml-cluster-1"}
ON_2 = {"v1": "ml-cluster-2"}


async def test_phases_come_in_order_and_end_with_convergence(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver")

    events = await control_plane.publish(table_of(ON_1))

    assert [event.phase for event in events] == [Phase.STORED, Phase.LOADED, Phase.ENDPOINTS, Phase.CONVERGED]
    assert list(replica.state.loaded) == [KEY]
    assert [use_case.name for use_case in resolver.updates[-1].use_cases] == ["ContinueWatchingRanking"]
    assert control_plane.publisher.revision == 1


async def test_an_empty_control_plane_leaves_nodes_their_rules_and_numbers_on_from_theirs(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver", revision=7)
    gateway = await control_plane.follower("gateway-1", with_endpoints=True, revision=6)
    await control_plane.admin(lambda admin: admin.status())
    assert (resolver.updates, gateway.updates) == ([], [])

    await control_plane.publish(table_of(ON_1))

    for each in (resolver, gateway):
        [update] = each.updates
        assert (update.full, update.revision) == (True, 8)
    assert [each.routing_key for each in gateway.updates[0].endpoints] == [KEY]
    later = await control_plane.follower("search-resolver", revision=100)
    assert [update.full for update in later.updates] == [True]
    await control_plane.publish(table_of(ON_1))
    assert control_plane.publisher.revision == 9


async def test_a_node_comes_with_no_impossible_revision(control_plane: ControlPlane) -> None:
    async with open_channel(control_plane.address) as channel:
        call = rules_pb2_grpc.RulesStub(channel).Subscribe()
        await call.write(rules_pb2.SubscribeRequest(node="homepage-resolver", role="resolver", revision=2**32))
        with pytest.raises(grpc.aio.AioRpcError, match="revision: 4294967296 is more than") as caught:
            await asyncio.wait_for(call.read(), 5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_move_reaches_gateways_but_neither_resolvers_nor_their_leases(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    resolver = await control_plane.follower("homepage-resolver")
    gateway = await control_plane.follower("gateway-1", with_endpoints=True)
    await control_plane.publish(table_of(ON_1))
    told = len(resolver.updates)

    await control_plane.publish(table_of(ON_2))

    assert len(resolver.updates) == told
    assert [(each.cluster, list(each.addresses)) for each in gateway.updates[-1].endpoints] == [
        ("ml-cluster-2", ["198.18.0.1:2"])
    ]


async def test_tenants_limits_reach_gateways_but_neither_resolvers_nor_their_leases(
    control_plane: ControlPlane,
) -> None:
    plain = table_of({"v1": "ml-cluster-1"})
    limited = RouteTable.from_document({**plain.document, "tenants": {"ads": {"rate": 5}}})
    await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("resolver")
    gateway = await control_plane.follower("gateway", with_endpoints=True)
    await control_plane.publish(plain)
    told = len(resolver.updates)

    await control_plane.publish(limited)

    assert (gateway.updates[-1].revision, gateway.updates[-1].tenants) == (1, b'{"ads":{"rate":5}}')
    assert control_plane.publisher.table.document["tenants"] == {"ads": {"rate": 5}}
    newcomer = await control_plane.follower("newcomer", with_endpoints=True)
    assert newcomer.updates[0].tenants == b'{"ads":{"rate":5}}'
    assert not (await control_plane.follower("another")).updates[0].HasField("tenants")
    sent = len(gateway.updates)
    await control_plane.publish(limited)
    assert len(gateway.updates) == sent

    await control_plane.publish(plain)

    assert gateway.updates[-1].tenants == b"{}"
    assert len(resolver.updates) == told
    assert control_plane.publisher.registry.document(4).get("tenants", {}) == {}


async def test_a_replaced_version_stays_loaded_until_it_is_retired(control_plane: ControlPlane) -> None:
    old = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    await control_plane.publish(table_of(ON_1))

    await control_plane.publish(table_of(ON_2))
    assert list(old.state.loaded) == [KEY]

    await eventually("the old cluster has unloaded it", lambda: list(old.state.loaded) == [])
    events = control_plane.stored(2).events
    assert events[-1].phase is Phase.RETIRED


async def test_a_replica_that_cannot_load_stops_the_publish_and_the_last_good_revision_stays(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    unable = await control_plane.replica("ml-cluster-2", "bb")
    unable.refuses = {KEY}
    resolver = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(ON_1))
    told = len(resolver.updates)

    with pytest.raises(PublishError, match=r"replica bb of ml-cluster-2 cannot load cw-ranker\.v1: out of memory"):
        await control_plane.publish(table_of(ON_2))

    assert control_plane.publisher.revision == 1
    assert len(resolver.updates) == told
    assert control_plane.stored(2).events[-1].phase is Phase.FAILED


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda replica: setattr(replica, "is_deaf", True), "replica bb of ml-cluster-2 lacks cw-ranker.v1"),
        (None, "cluster ml-cluster-2 has no replica"),
    ],
)
async def test_replicas_that_do_not_answer_or_do_not_exist_are_named(
    control_plane: ControlPlane, spoil: Callable[[object], None] | None, reason: str
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    if spoil:
        spoil(await control_plane.replica("ml-cluster-2", "bb"))
    await control_plane.publish(table_of(ON_1))

    with pytest.raises(PublishError, match=f"not loaded within 1 s: {reason}"):
        await control_plane.publish(table_of(ON_2))

    assert control_plane.publisher.revision == 1


async def test_a_resolver_that_refuses_stops_the_publish_and_everybody_gets_the_old_rules_back(
    control_plane: ControlPlane,
) -> None:
    both = {"v1": "ml-cluster-1", "v2": "ml-cluster-1"}
    await control_plane.replica("ml-cluster-1", "a")
    willing = await control_plane.follower("search-resolver")
    unwilling = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(both))
    unwilling.refuses = "cannot compile"

    with pytest.raises(PublishError, match="resolver homepage-resolver refused: cannot compile"):
        await control_plane.publish(table_of(both, default="cw-ranker@v2"))

    assert b'"default":"cw-ranker@v1"' in willing.updates[-1].use_cases[0].document
    assert control_plane.publisher.revision == 1


async def test_a_node_that_never_answers_is_named(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    deaf = await control_plane.follower("homepage-resolver")
    deaf.is_deaf = True

    with pytest.raises(PublishError, match="no answer within 1 s from resolver homepage-resolver"):
        await control_plane.publish(table_of(ON_1))

    assert control_plane.publisher.revision == 0


async def test_a_node_that_is_stuck_keeps_one_publish_waiting_where_that_may_leave_it_behind(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    stuck = await control_plane.follower("homepage-resolver")
    well = await control_plane.follower("search-resolver")
    subscribers = control_plane.publisher.fleet.feed.subscribers
    subscribers.leaves_silent_behind, stuck.is_deaf = True, True

    def errors() -> dict[str, str]:
        return {each.node: each.error for each in subscribers}

    first = await control_plane.publish(table_of(ON_1))
    second = await control_plane.publish(table_of({**ON_1, "v2": "ml-cluster-1"}, default="cw-ranker@v2"))

    assert errors() == {"homepage-resolver": "no answer within 1 s", "search-resolver": ""}
    assert b'"default":"cw-ranker@v2"' in well.updates[-1].use_cases[0].document
    took = [events[-1].at_ns - events[0].at_ns for events in (first, second)]
    assert took[0] > 1_000_000_000 > took[1]

    stuck.is_deaf = False
    await control_plane.publish(table_of(ON_1))
    await eventually("it has caught up", lambda: not any(errors().values()))


async def test_a_node_that_leaves_in_the_middle_is_not_waited_for(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    leaving = await control_plane.follower("homepage-resolver")
    leaving.is_deaf = True

    publish = asyncio.create_task(control_plane.publish(table_of(ON_1)))
    told = len(leaving.updates)
    await eventually("it has been told", lambda: len(leaving.updates) > told)
    await leaving.leave()

    await publish
    assert control_plane.publisher.revision == 1


async def test_of_two_publishers_that_looked_at_the_same_revision_one_is_refused(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(ON_1))

    results = await asyncio.gather(
        control_plane.publish(table_of(ON_1), expected_revision=1),
        control_plane.publish(table_of(ON_1), expected_revision=1),
        return_exceptions=True,
    )

    assert [type(each) for each in results if isinstance(each, Exception)] == [StaleRevisionError]
    assert control_plane.publisher.revision == 2


async def test_a_replica_that_dies_leaves_and_one_that_comes_is_used(control_plane: ControlPlane) -> None:
    first = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-1", "bb")
    await control_plane.publish(table_of(ON_1))
    store = control_plane.publisher.fleet.store

    def addresses() -> set[int]:
        resource = store.get(ENDPOINTS, f"ml-cluster-1/{KEY}")
        return {number for number in (1, 2, 3) if f"port_value={number}" in _ports(resource)}

    assert addresses() == {1, 2}
    await first.leave()
    await eventually("a has left", lambda: addresses() == {2})
    await control_plane.replica("ml-cluster-1", "ccc")
    await eventually("ccc is used", lambda: addresses() == {2, 3})


async def test_a_replica_that_freezes_is_taken_out_when_its_heartbeats_stop(control_plane: ControlPlane) -> None:
    frozen = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(ON_1))

    frozen.stops_beating = True

    await eventually("it is gone", lambda: control_plane.publisher.fleet.membership.members == [])


async def test_an_unknown_key_is_an_empty_cluster(control_plane: ControlPlane) -> None:
    assert control_plane.publisher.fleet.store.get(CLUSTER, "rows.v9").endpoint_set == ""


async def test_an_empty_route_table_may_be_published(control_plane: ControlPlane) -> None:
    await control_plane.publish(RouteTable.from_document({}))

    assert control_plane.publisher.revision == 1


def _ports(resource: Resource) -> str:
    message = endpoint_pb2.ClusterLoadAssignment()
    resource.body.Unpack(message)
    return " ".join(
        f"port_value={each.endpoint.address.socket_address.port_value}"
        for locality in message.endpoints
        for each in locality.lb_endpoints
    )
