"""Identity in xDS: whom a node may speak for, and how it is told to know the models that it is sent to.

What the store holds is the same for all nodes and says nothing of certificates. A cluster is secured for the node that
asks for it, on its way out: an Envoy takes its certificate from files that it named itself, gRPC from a provider in its
bootstrap; both accept nobody but the model cluster that the routing key leads to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2

from lab.identity import Identity
from lab.identity.envoy import IDENTITY, TRUSTED
from lab.transport import is_operator
from lab.transport.xds import CERTIFICATES
from lab.transport.xds import ROLE as PROXYLESS

if TYPE_CHECKING:
    from services.controlplane.xds.resources import Resource

_SOCKET = "envoy.transport_sockets.tls"


def identity_mismatch(identity: Identity | None, *, node: str, role: str, caller: str) -> str:
    """Why whoever has proved to be this may not be that node; empty if it may, and where nobody proves anything.

    A sidecar speaks for the caller that its own name names, so what it may use (:func:`caller_of`) is proved with that.

    Args:
        identity: what the connection has proved.
        node: id of the node that it says that it is.
        role: what it says that it is, e.g. ``sidecar``.
        caller: in whose name it says that it sends.
    """
    if identity is None or is_operator(identity):
        return ""
    may = Identity("caller", caller) if role == PROXYLESS else Identity(role, node)
    if identity == may and identity.caller not in ("", caller):
        return f"{identity.uri} may not speak for caller {caller!r}"
    return "" if identity == may else f"{identity.uri} may not be node {node!r} ({role}): {may.uri} may"


def caller_of(identity: Identity | None) -> str | None:
    """The caller whose keys alone a node may use; None if it may use all, as whoever serves all callers does."""
    return (identity.caller or None) if identity is not None else None


class TransportSocket(Protocol):
    """Makes of a cluster of the store what one node is told."""

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster with its transport socket."""


def plaintext(cluster: Resource) -> Resource:
    """For a node whose connections prove nothing: as it is."""
    return cluster


@dataclass(slots=True)
class EnvoyTls:
    """For an Envoy.

    Attributes:
        secrets: folder in which it has the files that lead to its certificate, by its own word.
    """

    secrets: str

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster, with a certificate to show and one to want."""
        matchers = [
            common_pb2.SubjectAltNameMatcher(san_type=common_pb2.SubjectAltNameMatcher.URI, matcher=each)
            for each in _exactly(cluster)
        ]
        return _secured(
            cluster,
            tls_pb2.CommonTlsContext(
                # As a client an Envoy stops at 1.2 by default.
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
    """For gRPC clients, which all are told the same, and all of it whenever something changes."""

    _secured: dict[str, tuple[str, Resource]] = field(default_factory=dict)

    def __call__(self, cluster: Resource) -> Resource:
        """The cluster, with a certificate to show and one to want."""
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
            # It enforces the deprecated list of names alone, and refuses parameters of TLS.
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
        return cluster  # nobody is behind it
    body = _with_socket(cluster.body, context)
    grpc_body = cluster.grpc_body and _with_socket(cluster.grpc_body, context)
    version = f"{cluster.version}+{blake2b(body.value, digest_size=12).hexdigest()}"
    return replace(cluster, version=version, body=body, grpc_body=grpc_body)


def _with_socket(plaintext_body: any_pb2.Any, context: tls_pb2.CommonTlsContext) -> any_pb2.Any:
    message = cluster_pb2.Cluster()
    plaintext_body.Unpack(message)
    socket, body = any_pb2.Any(), any_pb2.Any()
    socket.Pack(tls_pb2.UpstreamTlsContext(common_tls_context=context), deterministic=True)
    message.transport_socket.CopyFrom(base_pb2.TransportSocket(name=_SOCKET, typed_config=socket))
    body.Pack(message, deterministic=True)
    return body
