"""Clusters of an Envoy whose requests name their replica in their metadata, as an endpoint picker has put it there.

The Envoy says in its node's metadata where a request's pick is, and where the host that served is to be written. Its
clusters then have Envoy's policy ``override_host``, with the cluster's own policy as the fallback: for a request
without a pick, for a pick that is not a host of the cluster, and for a retry after the last endpoint of the list. The
policy asks neither health checks nor outlier detection about a picked host (envoyproxy/envoy,
source/extensions/load_balancing_policies/override_host/load_balancer.cc).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.override_host.v3 import override_host_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.type.metadata.v3 import metadata_pb2
from google.protobuf import any_pb2

from services.controlplane.xds.resources import packed, resource

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from services.controlplane.xds.identity import TransportSocket
    from services.controlplane.xds.resources import Resource

HOST_FROM, HOST_TO = "host_from", "host_to"
"""Fields of a node's metadata: namespace and key, with a blank between, of the metadata of a request that names its
host, as ``ip:port``, several with commas; and of the metadata into which Envoy writes the host that served."""

_SELECTED_HOST_KEY = 2
"""Number of the field ``selected_host_key`` of ``OverrideHost``, which Envoy 1.40 has and xds-protos 1.85 lacks
(envoy/api/envoy/extensions/load_balancing_policies/override_host/v3/override_host.proto)."""
_LENGTH_DELIMITED = 2


@dataclass(slots=True)
class PickedHosts:
    """Wraps the policy of each cluster; results are cached, as few nodes share them.

    Attributes:
        host_from: see :data:`HOST_FROM`.
        host_to: see :data:`HOST_TO`; empty to write nothing.
    """

    host_from: str
    host_to: str = ""
    _wrapped: dict[str, tuple[str, Resource]] = field(default_factory=dict)

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster with the policy; one without endpoints stays as it is."""
        if not cluster.endpoint_set:
            return cluster
        version, wrapped = self._wrapped.get(cluster.name, ("", cluster))
        if version != cluster.version:
            wrapped = self._wrap(cluster)
            self._wrapped[cluster.name] = cluster.version, wrapped
        return wrapped

    def _wrap(self, cluster: Resource) -> Resource:
        message = cluster_pb2.Cluster()
        cluster.body.Unpack(message)
        source = override_host_pb2.OverrideHost.OverrideHostSource(metadata=_key(self.host_from))
        override = override_host_pb2.OverrideHost(override_host_sources=[source])
        override.fallback_policy.policies.append(_policy(message))
        content = override.SerializeToString(deterministic=True)
        if self.host_to:
            content += _delimited(_SELECTED_HOST_KEY, _key(self.host_to))
        typed = any_pb2.Any(type_url=f"type.googleapis.com/{override.DESCRIPTOR.full_name}", value=content)
        message.load_balancing_policy.policies.append(_named(typed))
        # Both hold for `lb_policy` alone, and Envoy refuses a cluster with a policy in both forms.
        for other in ("lb_policy", "round_robin_lb_config", "least_request_lb_config"):
            message.ClearField(other)
        body = resource(cluster.name, message, cluster.endpoint_set)
        suffix = cluster.version.partition("+")[2]  # of failover and certificates, which the body does not show
        return replace(cluster, version=f"{body.version}+{suffix}" if suffix else body.version, body=body.body)


def following(socket: TransportSocket, hosts: PickedHosts) -> TransportSocket:
    """Both changes of a cluster, one after the other."""
    return lambda cluster: socket(hosts(cluster))


def _policy(cluster: cluster_pb2.Cluster) -> cluster_pb2.LoadBalancingPolicy.Policy:
    """The cluster's own policy in the form that another one can contain."""
    policy: least_request_pb2.LeastRequest | round_robin_pb2.RoundRobin
    if cluster.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST:
        its = cluster.least_request_lb_config
        policy = least_request_pb2.LeastRequest(choice_count=its.choice_count if its.HasField("choice_count") else None)
    else:
        its = cluster.round_robin_lb_config
        policy = round_robin_pb2.RoundRobin()
    if its.HasField("slow_start_config"):  # the same fields under another name
        slow_start = common_pb2.SlowStartConfig.FromString(its.slow_start_config.SerializeToString())
        policy.slow_start_config.CopyFrom(slow_start)
    return _named(packed(policy))


def _named(typed: any_pb2.Any) -> cluster_pb2.LoadBalancingPolicy.Policy:
    name = ".".join(("envoy", *typed.type_url.rsplit(".", 4)[1:3]))
    return cluster_pb2.LoadBalancingPolicy.Policy(
        typed_extension_config=extension_pb2.TypedExtensionConfig(name=name, typed_config=typed)
    )


def _key(named: str) -> metadata_pb2.MetadataKey:
    namespace, _, name = named.partition(" ")
    return metadata_pb2.MetadataKey(key=namespace, path=[metadata_pb2.MetadataKey.PathSegment(key=name)])


def _delimited(number: int, message: Message) -> bytes:
    content = message.SerializeToString(deterministic=True)
    size, length = bytearray(), len(content)
    while length >= 0x80:  # noqa: PLR2004 (of a varint)
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((number << 3 | _LENGTH_DELIMITED, *size, length)) + content
