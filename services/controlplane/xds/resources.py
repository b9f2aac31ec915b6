"""The xDS resources of a routing key: a cluster of that name, whose endpoints are the replicas that hold the version.

An Envoy has one route for all keys, in its bootstrap. A gRPC client gets one route per key, as it cannot take a
cluster's name from a header.

A resource's version is the hash of its content, so a restarted control plane sends nothing to an Envoy whose resources
are current.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2,  # noqa: F401 (pickers name its message)
)
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2, duration_pb2, json_format, wrappers_pb2

from lab.pickers import DEFAULT_PICKER, ENVOY, GRPC_XDS, PICKERS, Cannot, Picker
from lab.routing.headers import RETRIES_LEFT
from lab.routing.keys import COPY, COPY_HEADER, HEADER, SESSION_HEADER
from lab.transport.xds import LISTENER as LISTENER_NAME
from services.controlplane.xds import policies

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from lab.routing.resilience import Policy

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

FAILOVER = "failover"
"""Zone of the endpoints that stand in for all others."""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Envoy's default of 1,024 requests in flight would shed load that a scenario sends on purpose.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Resource:
    """One named, versioned piece of configuration.

    Attributes:
        endpoint_set: for a cluster, the name of its endpoints; empty if none.
        routes: for a listener, the clusters it routes to.
        grpc_body: what gRPC clients get instead of ``body``, None if that is the same.
        model_clusters: for a cluster, the model clusters that its endpoints may belong to.
    """

    name: str
    version: str
    body: any_pb2.Any
    endpoint_set: str = ""
    routes: frozenset[str] = frozenset()
    grpc_body: any_pb2.Any | None = None
    model_clusters: tuple[str, ...] = ()


_SENT_ONCE = ((COPY_HEADER, COPY), (RETRIES_LEFT, "0"))


def listener(routing_keys: Iterable[str], by_key: Mapping[str, Policy] | None = None) -> Resource:
    """The listener of gRPC clients: routes a request by its routing key to the cluster of that name.

    Without a route for its key, a call fails at once with gRPC's own message. Without any key there is no virtual host,
    as gRPC rejects one without routes. Routes carry the retry policies in ``by_key``.
    """
    keys, get = sorted(routing_keys), (by_key or {}).get
    routes: list[route_components_pb2.Route] = []
    for key in keys:
        policy = get(key)
        retry_policy = policies.grpc_retry_policy(policy) if policy is not None else None
        if retry_policy is not None:
            # Copies are never retried, nor what has no retries left.
            routes += (_route(key, {HEADER: key, name: value}) for name, value in _SENT_ONCE)
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


# For clusters with a ring of hashes; gRPC does not look at it for others.
_BY_SESSION = route_components_pb2.RouteAction.HashPolicy(
    header=route_components_pb2.RouteAction.HashPolicy.Header(header_name=SESSION_HEADER)
)


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
        route=route_components_pb2.RouteAction(
            cluster=cluster_name, retry_policy=retry_policy, hash_policy=[_BY_SESSION]
        ),
    )


def endpoint_set_name(cluster: str, routing_key: str) -> str:
    """Name of the endpoints of one model version on one cluster."""
    return f"{cluster}/{routing_key}"


def split_endpoint_set_name(name: str) -> tuple[str, str]:
    """Cluster and routing key of an endpoint set."""
    cluster, _, routing_key = name.rpartition("/")
    return cluster, routing_key


def cluster(
    routing_key: str,
    model_cluster: str,
    policy: Policy | None = None,
    failover: str = "",
    picker: Picker | None = None,
) -> Resource:
    """The cluster that a node sends a routing key to.

    Args:
        routing_key: its name.
        model_cluster: serves it.
        policy: its resilience policy.
        failover: the model cluster that stands in if no replica of the first can answer; empty if there is none.
        picker: picks the replica; round-robin by default.
    """
    found = _cluster(routing_key, model_cluster, policy, picker or PICKERS[DEFAULT_PICKER])
    if not failover:
        return replace(found, model_clusters=(model_cluster,))
    # The body is the same, but the certificates that it may accept are not.
    return replace(found, version=f"{found.version}+{failover}", model_clusters=(model_cluster, failover))


def _cluster(routing_key: str, model_cluster: str, policy: Policy | None, picker: Picker) -> Resource:
    endpoint_set = endpoint_set_name(model_cluster, routing_key)
    message = cluster_pb2.Cluster(
        name=routing_key,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(
            service_name=endpoint_set,
            eds_config=config_source_pb2.ConfigSource(
                ads=config_source_pb2.AggregatedConfigSource(),
                resource_api_version=config_source_pb2.V3,
                # Missing endpoints must not block the cluster, and every request to it, for Envoy's default of 15 s.
                initial_fetch_timeout=duration_pb2.Duration(seconds=2),
            ),
        ),
        connect_timeout=duration_pb2.Duration(seconds=1),
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(
            thresholds=[
                circuit_breaker_pb2.CircuitBreakers.Thresholds(
                    max_connections=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                    max_pending_requests=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                    max_requests=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                    max_retries=wrappers_pb2.UInt32Value(value=_NO_LIMIT),
                )
            ]
        ),
    )
    picked, picked_by_grpc = _picked_by(picker, ENVOY), _picked_by(picker, GRPC_XDS)
    message.MergeFrom(picked)
    http2 = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=protocol_pb2.Http2ProtocolOptions()
        )
    )
    outliers = None
    if policy is not None:
        policies.apply(policy, message, http2)
        outliers = policy.outliers
    if not http2.HasField("retry_policy"):
        http2.retry_policy.CopyFrom(policies.unconnected_elsewhere())
    message.typed_extension_protocol_options[_HTTP_OPTIONS].Pack(http2, deterministic=True)
    found = resource(routing_key, message, endpoint_set)
    if outliers is None and picked == picked_by_grpc:
        return found
    if outliers is not None:
        message.outlier_detection.CopyFrom(policies.grpc_outlier_detection(outliers))
    for each, _ in picked.ListFields():
        message.ClearField(each.name)
    message.MergeFrom(picked_by_grpc)
    return replace(found, grpc_body=packed(message))


@cache
def _picked_by(picker: Picker, place: str) -> cluster_pb2.Cluster:
    """The fields of a cluster that a picker configures at a place; none where it cannot, as no unit there asks."""
    configured = picker.at(place)
    return json_format.ParseDict({} if isinstance(configured, Cannot) else configured, cluster_pb2.Cluster())


def empty_cluster(routing_key: str) -> Resource:
    """A cluster without endpoints, for a key that maps to nothing: Envoy fails its requests at once.

    If Envoy learned that the cluster does not exist, each further request would wait for the on-demand timeout.
    """
    message = cluster_pb2.Cluster(
        name=routing_key,
        type=cluster_pb2.Cluster.STATIC,
        load_assignment=endpoint_pb2.ClusterLoadAssignment(cluster_name=routing_key),
    )
    return resource(routing_key, message)


def corrupt_cluster(routing_key: str) -> Resource:
    """A cluster that every Envoy refuses: its connect timeout is 0."""
    message = cluster_pb2.Cluster(name=routing_key, connect_timeout=duration_pb2.Duration())
    return resource(routing_key, message)


def endpoints(endpoint_set: str, addresses: Iterable[str], standby: Iterable[str] = ()) -> Resource:
    """The replicas of an endpoint set, and the standby replicas for when none of them can answer, all ``ip:port``."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=endpoint_set)
    members, others = sorted(addresses), sorted(standby)
    if members:
        message.endpoints.append(_locality("lab", members, priority=0))
    if others:
        # Priorities start at 0 without gaps, so standby replicas without primaries have priority 0.
        message.endpoints.append(_locality(FAILOVER, others, priority=1 if members else 0))
    if members and others:
        # A single healthy replica keeps all traffic. By default Envoy spills over once fewer than 71 % are healthy.
        message.policy.overprovisioning_factor.value = 100 * len(members)
    return resource(endpoint_set, message)


def _locality(zone: str, addresses: Iterable[str], *, priority: int) -> endpoint_components_pb2.LocalityLbEndpoints:
    """A priority's endpoints. gRPC ignores a locality without name and weight; Envoy does not mind them."""
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
    """A message with its type; equal messages give equal bytes."""
    body = any_pb2.Any()
    body.Pack(message, deterministic=True)
    return body
