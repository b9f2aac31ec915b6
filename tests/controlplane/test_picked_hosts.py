"""The clusters of an Envoy whose requests name their replica: the policy around the cluster's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.override_host.v3 import override_host_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.type.metadata.v3 import metadata_pb2

from lab.pickers import PICKERS
from lab.routing.resilience import Policy
from services.controlplane.nodes.zones import Zones
from services.controlplane.xds.picked_hosts import PickedHosts
from services.controlplane.xds.resources import CLUSTER, Resource, cluster, empty_cluster
from services.controlplane.xds.service import Discovery
from services.controlplane.xds.store import ResourceStore

HOSTS = PickedHosts("envoy.lb picked", "envoy.lb " + "served" * 30)


def wrapped(of: Resource) -> tuple[cluster_pb2.Cluster, override_host_pb2.OverrideHost]:
    message, override = cluster_pb2.Cluster(), override_host_pb2.OverrideHost()
    HOSTS(of).body.Unpack(message)
    [policy] = message.load_balancing_policy.policies
    assert policy.typed_extension_config.typed_config.Unpack(override)
    return message, override


def fallback_of(override: override_host_pb2.OverrideHost, kind: Any) -> Any:
    [policy] = override.fallback_policy.policies
    found = kind()
    assert policy.typed_extension_config.typed_config.Unpack(found), policy
    return found


def test_the_pick_comes_from_metadata_and_the_served_host_goes_there() -> None:
    message, override = wrapped(cluster("rows.v1", "ml-1"))
    [source] = override.override_host_sources
    assert (source.header, source.metadata.key, source.metadata.path[0].key) == ("", "envoy.lb", "picked")
    [raw] = (each.typed_extension_config.typed_config.value for each in message.load_balancing_policy.policies)
    without = override_host_pb2.OverrideHost()
    without.CopyFrom(override)
    without.DiscardUnknownFields()
    known = without.SerializeToString(deterministic=True)
    # Its field 2, of more than 127 bytes, whose length takes two.
    served = raw.removeprefix(known)
    assert (served[0], (served[1] & 0x7F) | served[2] << 7) == (0x12, len(served) - 3)
    key = metadata_pb2.MetadataKey.FromString(served[3:])
    assert (key.key, key.path[0].key) == ("envoy.lb", "served" * 30)


@pytest.mark.parametrize(
    ("picker", "kind"),
    [("round-robin", round_robin_pb2.RoundRobin), ("least-request", least_request_pb2.LeastRequest)],
)
def test_the_clusters_own_policy_is_the_fallback_with_its_slow_start(picker: str, kind: Any) -> None:
    policy = Policy(slow_start_s=7.0)
    message, override = wrapped(cluster("rows.v1", "ml-1", policy, picker=PICKERS[picker]))
    found = fallback_of(override, kind)
    assert found.slow_start_config.slow_start_window.seconds == 7
    if picker == "least-request":
        assert found.choice_count.value == 10
    assert message.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN
    assert message.WhichOneof("lb_config") is None


class Peer:
    """A caller of the control plane without a certificate."""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}


@pytest.mark.parametrize(("metadata", "prefers"), [({}, True), ({"host_from": "envoy.lb picked"}, False)])
async def test_only_an_envoy_that_picks_replicas_itself_prefers_its_zone(
    metadata: dict[str, str], *, prefers: bool
) -> None:
    store = ResourceStore()
    store.update(clusters={"rows.v1": "ml-1"})
    first = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, resource_names_subscribe=["rows.v1"])
    first.node.id = "central"
    first.node.metadata.update(metadata)

    async def requests() -> AsyncIterator[discovery_pb2.DeltaDiscoveryRequest]:
        yield first
        await asyncio.Event().wait()

    discovery: Any = Discovery(store, zones=Zones(nodes={"central": "west"}))
    message = cluster_pb2.Cluster()
    async with aclosing(discovery.DeltaAggregatedResources(requests(), Peer())) as responses:
        [found] = (await anext(responses)).resources
    assert found.resource.Unpack(message)
    assert message.HasField("load_balancing_policy") is not prefers, "Envoy refuses a cluster with both"
    assert message.common_lb_config.HasField("zone_aware_lb_config") is prefers


def test_the_version_follows_what_is_sent() -> None:
    plain = cluster("rows.v1", "ml-1")
    assert HOSTS(plain).version != plain.version
    assert HOSTS(plain) is HOSTS(cluster("rows.v1", "ml-1"))
    with_failover = cluster("rows.v1", "ml-1", failover="ml-2")
    assert HOSTS(with_failover).version.endswith("+ml-2")
    assert HOSTS(with_failover).model_clusters == ("ml-1", "ml-2")


def test_a_cluster_without_endpoints_stays_as_it_is() -> None:
    empty = empty_cluster("rows.v1")
    assert HOSTS(empty) is empty
