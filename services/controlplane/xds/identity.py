"""TLS identity in xDS: which node may act for which caller, and how each node authenticates the models it calls.

The store's clusters are the same for all nodes and carry no TLS settings. On its way to a node, a cluster gets a
transport socket: an Envoy reads its certificate from files that it named itself, gRPC uses a provider of its bootstrap.
Both accept only the certificate of the model cluster that the routing key leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from lab.identity import Identity
from lab.identity.envoy import IDENTITY, TRUSTED
from lab.transport import is_operator
from lab.transport.xds import CERTIFICATES
from lab.transport.xds import ROLE as PROXYLESS
from services.controlplane.xds.resources import Resource, packed

if TYPE_CHECKING:
    from google.protobuf import any_pb2


_SOCKET = "envoy.transport_sockets.tls"


def identity_mismatch(identity: Identity | None, *, node: str, role: str, caller: str) -> str:
    """Why a peer with this identity may not be that node; empty if it may, or if peers do not authenticate.

    A sidecar's certificate names its caller, so it also proves which keys the sidecar may use (:func:`caller_of`).

    Args:
        identity: of the peer's certificate.
        node: the node id that the peer claims.
        role: the role that it claims, e.g. ``sidecar``.
        caller: the caller that it claims to send for.
    """
    if identity is None or is_operator(identity):
        return ""
    may = Identity("caller", caller) if role == PROXYLESS else Identity(role, node)
    if identity == may and identity.caller not in ("", caller):
        return f"{identity.uri} may not speak for caller {caller!r}"
    return "" if identity == may else f"{identity.uri} may not be node {node!r} ({role}): {may.uri} may"


def caller_of(identity: Identity | None) -> str | None:
    """The caller whose keys a node is limited to; None if it may use all keys."""
    return (identity.caller or None) if identity is not None else None


TransportSocket = Callable[["Resource"], "Resource"]
"""Adds a node's transport socket to a cluster of the store."""


def plaintext(cluster: Resource) -> Resource:
    """Returns the cluster unchanged, for nodes that do not authenticate."""
    return cluster


@dataclass(slots=True)
class EnvoyTls:
    """TLS settings for an Envoy.

    Attributes:
        secrets: the folder that the Envoy names, with SDS files for its certificate.
    """

    secrets: str

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster with the Envoy's certificate and the expected peer."""
        matchers = [
            common_pb2.SubjectAltNameMatcher(san_type=common_pb2.SubjectAltNameMatcher.URI, matcher=each)
            for each in _exactly(cluster)
        ]
        return _secured(
            cluster,
            tls_pb2.CommonTlsContext(
                # As a client, Envoy's maximum is TLS 1.2 by default.
                tls_params=common_pb2.TlsParameters(
                    tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
                    tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
                ),
                alpn_protocols=["h2"],
                tls_certificate_sds_secret_configs=[self._source(IDENTITY)],
                combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
                    default_validation_context=common_pb2.CertificateValidationContext(
                        match_typed_subject_alt_names=matchers
                    ),
                    validation_context_sds_secret_config=self._source(TRUSTED),
                ),
            ),
        )

    def _source(self, name: str) -> secret_pb2.SdsSecretConfig:
        return secret_pb2.SdsSecretConfig(
            name=name,
            sds_config=config_source_pb2.ConfigSource(
                path_config_source=config_source_pb2.PathConfigSource(path=f"{self.secrets}/{name}.yaml"),
                resource_api_version=config_source_pb2.V3,
            ),
        )


@dataclass(slots=True)
class GrpcTls:
    """TLS settings for gRPC clients. All receive the same, and all of it on every change, so results are cached."""

    _secured: dict[str, tuple[str, Resource]] = field(default_factory=dict)

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster with the client's certificate and the expected peer."""
        version, secured = self._secured.get(cluster.name, ("", cluster))
        if version != cluster.version:
            secured = self._secure(cluster)
            self._secured[cluster.name] = (cluster.version, secured)
        return secured

    @staticmethod
    def _secure(cluster: Resource) -> Resource:
        provider = common_pb2.CertificateProviderPluginInstance(instance_name=CERTIFICATES)
        return _secured(
            cluster,
            # gRPC enforces only the deprecated list of names, and rejects TLS parameters.
            tls_pb2.CommonTlsContext(
                tls_certificate_provider_instance=provider,
                validation_context=common_pb2.CertificateValidationContext(
                    ca_certificate_provider_instance=provider, match_subject_alt_names=_exactly(cluster)
                ),
            ),
        )


def _exactly(cluster: Resource) -> list[string_pb2.StringMatcher]:
    return [string_pb2.StringMatcher(exact=Identity("model", each).uri) for each in cluster.model_clusters]


def _secured(cluster: Resource, context: tls_pb2.CommonTlsContext) -> Resource:
    if not cluster.model_clusters:
        return cluster  # no replica is behind it
    body = _with_socket(cluster.body, context)
    grpc_body = cluster.grpc_body and _with_socket(cluster.grpc_body, context)
    version = f"{cluster.version}+{blake2b(body.value, digest_size=12).hexdigest()}"
    return replace(cluster, version=version, body=body, grpc_body=grpc_body)


def _with_socket(plaintext_body: any_pb2.Any, context: tls_pb2.CommonTlsContext) -> any_pb2.Any:
    message = cluster_pb2.Cluster()
    plaintext_body.Unpack(message)
    socket = packed(tls_pb2.UpstreamTlsContext(common_tls_context=context))
    message.transport_socket.CopyFrom(base_pb2.TransportSocket(name=_SOCKET, typed_config=socket))
    return packed(message)
