"""xDS resources as nodes of a zone get them: with the addresses of links, and with a preference for their own zone.

An Envoy prefers its zone by its own zone-aware routing, which needs the zones of the endpoints. gRPC has no such thing:
it gets the endpoints of its own zone with a priority before all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, FAILOVER, Resource, resource

if TYPE_CHECKING:
    from services.controlplane.nodes.zones import Zones

View = Callable[[str, Resource], Resource]
"""Returns a resource of a type as a node gets it."""

_LEAST_REPLICAS = 1
"""From which Envoy prefers its zone; its own default is 6."""


def everywhere(type_url: str, found: Resource) -> Resource:
    """The resource unchanged, for nodes that are in no zone."""
    del type_url
    return found


def view_from(zones: Zones, zone: str, *, by_priority: bool = False, zone_aware: bool = False) -> View:
    """How a node sees resources from its zone.

    Args:
        zones: of the lab.
        zone: of the node; empty for none.
        by_priority: whether it prefers its own zone by priorities, as gRPC does.
        zone_aware: whether it prefers its own zone by Envoy's zone-aware routing. An Envoy whose requests name their
            replica does not: Envoy refuses a cluster with both.
    """
    if not zone:
        return everywhere

    def view(type_url: str, found: Resource) -> Resource:
        if type_url == ENDPOINTS:
            return _endpoints(found, zones, zone, by_priority=by_priority)
        return _cluster(found) if type_url == CLUSTER and zone_aware and found.endpoint_set else found

    return view


def _cluster(found: Resource) -> Resource:
    message = cluster_pb2.Cluster()
    found.body.Unpack(message)
    message.common_lb_config.zone_aware_lb_config.min_cluster_size.value = _LEAST_REPLICAS
    seen = resource(found.name, message, found.endpoint_set)
    suffix = found.version.partition("+")[2]  # the failover cluster, by which certificates differ
    version = f"{seen.version}+{suffix}" if suffix else seen.version
    return Resource(
        found.name, version, seen.body, found.endpoint_set, grpc_body=None, model_clusters=found.model_clusters
    )


def _endpoints(found: Resource, zones: Zones, zone: str, *, by_priority: bool) -> Resource:
    message = endpoint_pb2.ClusterLoadAssignment()
    found.body.Unpack(message)
    localities: list[endpoint_components_pb2.LocalityLbEndpoints] = []
    own_first = by_priority and any(
        zones.targets.get(_address(host)) == zone
        for each in message.endpoints
        for host in each.lb_endpoints
        if each.locality.zone != FAILOVER
    )
    for each in message.endpoints:
        stands_in = each.locality.zone == FAILOVER
        hosts: dict[str, list[endpoint_components_pb2.LbEndpoint]] = {}
        for host in each.lb_endpoints:
            its_zone = FAILOVER if stands_in else zones.targets.get(_address(host), each.locality.zone)
            hosts.setdefault(its_zone, []).append(_through(host, zones.reached.get(zone, {})))
        for its_zone, members in sorted(hosts.items()):
            locality = endpoint_components_pb2.LocalityLbEndpoints()
            locality.CopyFrom(each)
            del locality.lb_endpoints[:]
            locality.lb_endpoints.extend(members)
            locality.locality.CopyFrom(base_pb2.Locality(zone=its_zone))
            if own_first and its_zone != zone:
                locality.priority += 1
            localities.append(locality)
    used = sorted({each.priority for each in localities})  # priorities have no gaps
    for locality in localities:
        locality.priority = used.index(locality.priority)
    del message.endpoints[:]
    message.endpoints.extend(localities)
    return resource(found.name, message, found.endpoint_set)


def _address(host: endpoint_components_pb2.LbEndpoint) -> str:
    at = host.endpoint.address.socket_address
    return f"{at.address}:{at.port_value}"


def _through(host: endpoint_components_pb2.LbEndpoint, links: Mapping[str, str]) -> endpoint_components_pb2.LbEndpoint:
    if (link := links.get(_address(host))) is None:
        return host
    seen = endpoint_components_pb2.LbEndpoint()
    seen.CopyFrom(host)
    address, _, port = link.rpartition(":")
    seen.endpoint.address.socket_address.address = address
    seen.endpoint.address.socket_address.port_value = int(port)
    return seen
