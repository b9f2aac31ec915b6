"""Whom a node may be, and whom it is told to accept."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from lab.identity import Identity
from services.controlplane.xds.identity import EnvoyTls, GrpcTls, identity_mismatch
from services.controlplane.xds.resources import Resource, cluster, empty_cluster

ONE, OTHER = "spiffe://lab.internal/model/ml-cluster-1", "spiffe://lab.internal/model/ml-cluster-2"


def context_of(resource: Resource) -> tls_pb2.CommonTlsContext:
    message, context = cluster_pb2.Cluster(), tls_pb2.UpstreamTlsContext()
    (resource.grpc_body or resource.body).Unpack(message)
    assert message.transport_socket.typed_config.Unpack(context)
    return context.common_tls_context


@pytest.mark.parametrize(("failover", "accepted"), [("", [ONE]), ("ml-cluster-2", [ONE, OTHER])])
def test_exactly_the_clusters_behind_a_key_are_accepted(failover: str, accepted: list[str]) -> None:
    undressed = cluster("cw-ranker.v1", "ml-cluster-1", None, failover)

    for_envoy = context_of(EnvoyTls("/secrets")(undressed)).combined_validation_context.default_validation_context
    for_grpc = context_of(GrpcTls()(undressed)).validation_context

    assert [each.matcher.exact for each in for_envoy.match_typed_subject_alt_names] == accepted
    assert [each.exact for each in for_grpc.match_subject_alt_names] == accepted


def test_another_failover_makes_another_version() -> None:
    dress = EnvoyTls("/secrets")
    versions = {dress(cluster("cw-ranker.v1", "ml-cluster-1", None, other)).version for other in ("", "a", "b")}

    assert len(versions) == 3


def test_an_envoy_shows_the_certificate_that_its_own_files_lead_to() -> None:
    [source] = context_of(
        EnvoyTls("/secrets")(cluster("cw-ranker.v1", "ml-cluster-1"))
    ).tls_certificate_sds_secret_configs

    assert source.sds_config.path_config_source.path == "/secrets/identity.yaml"


def test_a_key_that_leads_nowhere_needs_no_dress() -> None:
    nowhere = empty_cluster("cw-ranker.v9")

    assert EnvoyTls("/secrets")(nowhere) == nowhere


@pytest.mark.parametrize(
    ("identity", "may"),
    [
        (Identity("sidecar", "homepage-sidecar"), True),
        (Identity("sidecar", "search-sidecar"), False),
        (Identity("central-envoy", "homepage-sidecar"), False),
        (Identity("caller", "homepage"), False),
        (Identity("operator", "cli"), True),
        (None, True),
    ],
)
def test_a_sidecar_may_only_be_the_one_its_certificate_names(identity: Identity | None, may: bool) -> None:  # noqa: FBT001 (a case)
    assert (not identity_mismatch(identity, node="homepage-sidecar", role="sidecar", caller="homepage")) == may


def test_a_caller_routes_by_itself_in_its_own_name() -> None:
    homepage = Identity("caller", "homepage")

    assert not identity_mismatch(homepage, node="homepage-proxyless-1", role="proxyless", caller="homepage")
    assert "may not be node" in identity_mismatch(
        homepage, node="search-proxyless-1", role="proxyless", caller="search"
    )
