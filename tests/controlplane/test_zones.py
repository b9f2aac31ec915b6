"""What nodes get of replicas in other zones: addresses of links, and a preference for their own zone."""

import json
from pathlib import Path

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from lab.routing.document import RouteTable
from models.proto.control.v1 import rules_pb2
from services.controlplane.nodes.zones import Zones
from services.controlplane.publishing.in_force import InForce
from services.controlplane.publishing.rules_feed import RulesFeed, Served
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, Resource, cluster, endpoints
from services.controlplane.xds.zones import everywhere, view_from

A, B, C, LINK = "10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000", "10.0.0.9:9090"
ZONES = Zones(
    nodes={"homepage": "west", "homepage-sidecar": "west", "gateway-1": "west"},
    targets={A: "west", B: "east", C: "east"},
    reached={"west": {B: LINK}, "east": {}},
)


def localities(found: Resource) -> list[tuple[int, str, list[str]]]:
    message = endpoint_pb2.ClusterLoadAssignment()
    found.body.Unpack(message)
    return [
        (
            each.priority,
            each.locality.zone,
            [
                f"{at.address}:{at.port_value}"
                for at in (host.endpoint.address.socket_address for host in each.lb_endpoints)
            ],
        )
        for each in message.endpoints
    ]


def test_an_envoy_gets_zones_and_links() -> None:
    view = view_from(ZONES, "west", zone_aware=True)
    seen = view(ENDPOINTS, endpoints("one/key.v1", [A, B], [C]))
    assert localities(seen) == [(0, "east", [LINK]), (0, "west", [A]), (1, "failover", [C])]


def test_an_envoy_prefers_its_zone_however_few_replicas_there_are() -> None:
    before = cluster("key.v1", "one", failover="two")
    seen, message = view_from(ZONES, "west", zone_aware=True)(CLUSTER, before), cluster_pb2.Cluster()
    seen.body.Unpack(message)
    assert message.common_lb_config.zone_aware_lb_config.min_cluster_size.value == 1
    assert seen.version != before.version
    assert seen.version.endswith("+two")
    assert (seen.endpoint_set, seen.model_clusters) == (before.endpoint_set, before.model_clusters)


def test_grpc_gets_its_zone_first_then_others_then_the_failover() -> None:
    view = view_from(ZONES, "west", by_priority=True)
    assert localities(view(ENDPOINTS, endpoints("one/key.v1", [A, B], [C]))) == [
        (1, "east", [LINK]),
        (0, "west", [A]),
        (2, "failover", [C]),
    ]


def test_without_a_replica_in_its_zone_priorities_have_no_gap() -> None:
    view = view_from(ZONES, "west", by_priority=True)
    assert localities(view(ENDPOINTS, endpoints("one/key.v1", [B], [A]))) == [
        (0, "east", [LINK]),
        (1, "failover", [A]),
    ]
    assert localities(view(ENDPOINTS, endpoints("one/key.v1", [A], [C]))) == [(0, "west", [A]), (1, "failover", [C])]
    assert view(CLUSTER, before := cluster("key.v1", "one")) is before


def test_a_node_without_a_zone_gets_exactly_what_is_stored() -> None:
    view = view_from(Zones(), "", zone_aware=True)
    assert view is everywhere
    for type_url, each in ((CLUSTER, cluster("key.v1", "one")), (ENDPOINTS, endpoints("one/key.v1", [A, B]))):
        assert view(type_url, each) is each


def test_zones_come_from_a_file_and_a_caller_stands_for_its_library(tmp_path: Path) -> None:
    file = tmp_path / "zones.json"
    file.write_text(json.dumps({"nodes": ZONES.nodes, "targets": ZONES.targets, "reached": ZONES.reached}))
    read = Zones.read(str(file))
    assert read == ZONES
    assert [read.zone_of("homepage-7", "homepage"), read.zone_of("search-7", "search")] == ["west", ""]


async def test_gateways_get_the_addresses_of_links_and_others_do_not() -> None:
    feed = RulesFeed(lambda: 0)
    feed.zones = ZONES
    feed.publish_endpoints({"key.v1": Served("key.v1", "one", (A, B), (C,), "two")})
    feed.publish_rules(InForce(1, RouteTable.from_document({})))

    async def silence() -> rules_pb2.SubscribeRequest:
        raise StopAsyncIteration

    class Requests:
        def __aiter__(self) -> "Requests":
            return self

        async def __anext__(self) -> rules_pb2.SubscribeRequest:
            return await silence()

    async def first(node: str) -> rules_pb2.KeyEndpoints:
        hello = rules_pb2.SubscribeRequest(node=node, role="gateway", with_endpoints=True)
        async for update in feed.serve(hello, Requests(), node):
            [found] = update.endpoints
            return found
        raise AssertionError(node)

    near, far = await first("gateway-1"), await first("gateway-2")
    assert [*near.addresses, *near.standby] == [A, LINK, C]
    assert [*far.addresses, *far.standby] == [A, B, C]
