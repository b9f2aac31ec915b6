"""How a routing key looks to a node: a cluster of that name, whose endpoints are the replicas that hold the version.

An Envoy has one route for all keys, in its bootstrap. A gRPC client gets one for each, as it cannot take the name of a
cluster from a header.

The version of a resource is the hash of its content, so a control plane that comes back after a crash has nothing to
send to an Envoy whose resources are still right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2

from lab.routing.keys import COPY, COPY_HEADER, HEADER
from lab.transport.xds import LISTENER as LISTENER_NAME
from services.controlplane.xds import policies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.message import Message

    from lab.routing.resilience import Policy

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Envoy's default of 1,024 requests in flight would shed load that the scenario under way means to send.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Resource:
    """One named, versioned piece of configuration.

    Attributes:
        endpoint_set: for a cluster, the name of the endpoints that it will ask for; empty if none.
        routes: for a listener, the clusters that it leads to.
        grpc_body: what a gRPC client that routes by itself gets instead of ``body``, None if that is the same.
        model_clusters: for a cluster, those whose replicas may be behind it.
    """

    name: str
    version: str
    body: any_pb2.Any
    endpoint_set: str = ""
    routes: frozenset[str] = frozenset()
    grpc_body: any_pb2.Any | None = None
    model_clusters: tuple[str, ...] = ()


def listener(routing_keys: Iterable[str], by_key: Mapping[str, Policy] | None = None) -> Resource:
    """What leads a gRPC client from a request's routing key to the cluster of that name.

    A key that has no route fails at once, in gRPC's own words. So do all as long as there is not one route: an empty
    list of routes would be refused. Retries stand in the route, by the policies in ``by_key``.
    """
    keys, get = sorted(routing_keys), (by_key or {}).get
    routes: list[route_components_pb2.Route] = []
    for key in keys:
        policy = get(key)
        retry_policy = policies.grpc_retry_policy(policy) if policy is not None else None
        if retry_policy is not None:
            # A copy is sent once, whatever is done for requests.
            routes.append(_route(key, {HEADER: key, COPY_HEADER: COPY}))
        routes.append(_route(key, {HEADER: key}, retry_policy))
    virtual_host = route_components_pb2.VirtualHost(name="all", domains=["*"], routes=routes)
    manager = http_connection_manager_pb2.HttpConnectionManager(
        route_config=route_pb2.RouteConfiguration(name="by-routing-key", virtual_hosts=[virtual_host] if keys else []),
        http_filters=[http_connection_manager_pb2.HttpFilter(name="router", typed_config=packed(router_pb2.Router()))],
    )
    message = listener_pb2.Listener(
        name=LISTENER_NAME, api_listener=api_listener_pb2.ApiListener(api_listener=packed(manager))
    )
    return replace(resource(LISTENER_NAME, message), routes=frozenset(keys))


def _route(
    cluster_name: str, headers: Mapping[str, str], retry_policy: route_components_pb2.RetryPolicy | None = None
) -> route_components_pb2.Route:
    return route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(
            prefix="",
            headers=[
                route_components_pb2.HeaderMatcher(name=name, string_match=string_pb2.StringMatcher(exact=value))
                for name, value in headers.items()
            ],
        ),
        route=route_components_pb2.RouteAction(cluster=cluster_name, retry_policy=retry_policy),
    )


def endpoint_set_name(cluster: str, routing_key: str) -> str:
    """Name of the endpoints of one model version on one cluster."""
    return f"{cluster}/{routing_key}"


def split_endpoint_set_name(name: str) -> tuple[str, str]:
    """Cluster and routing key of an endpoint set."""
    cluster, _, routing_key = name.rpartition("/")
    return cluster, routing_key


def key_of_endpoint_set(name: str) -> str:
    """The routing key in such a name."""
    return name.rpartition("/")[2]


def cluster(routing_key: str, model_cluster: str, policy: Policy | None = None, failover: str = "") -> Resource:
    """The cluster that Envoy sends a routing key to.

    Args:
        routing_key: its name.
        model_cluster: serves it.
        policy: how it is treated.
        failover: the model cluster that stands in, if one does.
    """
    found = _cluster(routing_key, model_cluster, policy)
    if not failover:
        return replace(found, model_clusters=(model_cluster,))
    # Not in what it says, but in whom its connections may end at.
    return replace(found, version=f"{found.version}+{failover}", model_clusters=(model_cluster, failover))


def _cluster(routing_key: str, model_cluster: str, policy: Policy | None) -> Resource:
    endpoint_set = endpoint_set_name(model_cluster, routing_key)
    message = cluster_pb2.Cluster(
        name=routing_key,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(
            service_name=endpoint_set,
            eds_config=config_source_pb2.ConfigSource(
                ads=config_source_pb2.AggregatedConfigSource(),
                resource_api_version=config_source_pb2.V3,
                # Endpoints that do not come must not hold the cluster, and every request to it, for Envoy's 15 s.
                initial_fetch_timeout=duration_pb2.Duration(seconds=2),
            ),
        ),
        connect_timeout=duration_pb2.Duration(seconds=1),
        lb_policy=cluster_pb2.Cluster.ROUND_ROBIN,
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(
            thresholds=[
                circuit_breaker_pb2.CircuitBreakers.Thresholds(
                    max_connections=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                    max_pending_requests=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                    max_requests=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                )
            ]
        ),
    )
    http2 = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=protocol_pb2.Http2ProtocolOptions()
        )
    )
    if policy is None:
        message.typed_extension_protocol_options[_HTTP_OPTIONS].Pack(http2)
        return resource(routing_key, message, endpoint_set)
    policies.apply(policy, message, http2)
    message.typed_extension_protocol_options[_HTTP_OPTIONS].Pack(http2, deterministic=True)
    found = resource(routing_key, message, endpoint_set)
    if policy.outliers is None:
        return found
    message.outlier_detection.CopyFrom(policies.grpc_outlier_detection(policy.outliers))
    return replace(found, grpc_body=packed(message))


def empty_cluster(routing_key: str) -> Resource:
    """A cluster without endpoints, for a key that maps to nothing.

    Envoy then fails such a request at once. Told that the cluster does not exist, it would hold every further request
    until its on-demand timeout.
    """
    message = cluster_pb2.Cluster(
        name=routing_key,
        type=cluster_pb2.Cluster.STATIC,
        load_assignment=endpoint_pb2.ClusterLoadAssignment(cluster_name=routing_key),
    )
    return resource(routing_key, message)


def corrupt_cluster(routing_key: str) -> Resource:
    """A cluster that every Envoy refuses: it may take no time at all to connect."""
    message = cluster_pb2.Cluster(name=routing_key, connect_timeout=duration_pb2.Duration())
    return resource(routing_key, message)


def endpoints(endpoint_set: str, addresses: Iterable[str], standby: Iterable[str] = ()) -> Resource:
    """The replicas behind an endpoint set, as ``ip:port``, and those that stand in while none of them can answer."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=endpoint_set)
    members, others = sorted(addresses), sorted(standby)
    if members:
        message.endpoints.append(_locality("lab", members, priority=0))
    if others:
        # Priorities have no gaps: if there is nobody to stand in for, these are the first.
        message.endpoints.append(_locality("failover", others, priority=1 if members else 0))
    if members and others:
        # One that is left takes all: Envoy would let the others have a part as soon as a third of them are gone.
        message.policy.overprovisioning_factor.value = 100 * len(members)
    return resource(endpoint_set, message)


def _locality(zone: str, addresses: Iterable[str], *, priority: int) -> endpoint_components_pb2.LocalityLbEndpoints:
    """GRPC's own xDS client drops a locality without a name and a weight; Envoy does not mind them."""
    return endpoint_components_pb2.LocalityLbEndpoints(
        locality=base_pb2.Locality(zone=zone),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=1),
        lb_endpoints=[_endpoint(address) for address in addresses],
        priority=priority,
    )


def _endpoint(address: str) -> endpoint_components_pb2.LbEndpoint:
    host, _, port = address.rpartition(":")
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host, port_value=int(port)))
        ),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=1),
    )


def resource(name: str, message: Message, endpoint_set: str = "") -> Resource:
    """A message as a resource of that name."""
    body = packed(message)
    return Resource(name, blake2b(body.value, digest_size=12).hexdigest(), body, endpoint_set)


def packed(message: Message) -> any_pb2.Any:
    """A message with its type; equal ones have equal bytes."""
    body = any_pb2.Any()
    body.Pack(message, deterministic=True)
    return body
