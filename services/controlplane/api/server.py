"""Adds all of the control plane's services to one gRPC server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import ads_pb2, ads_pb2_grpc
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc

from lab.identity import OWNER
from models.proto.control.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    faults_pb2,
    faults_pb2_grpc,
    replicas_pb2,
    replicas_pb2_grpc,
    rules_pb2,
    rules_pb2_grpc,
)
from services.controlplane.api.admin import AdminServicer
from services.controlplane.api.audit import AuditLog
from services.controlplane.api.faults import FaultsServicer
from services.controlplane.api.registration import ReplicasServicer
from services.controlplane.api.rules import RulesServicer
from services.controlplane.nodes.admission import Admission
from services.controlplane.nodes.zones import Zones
from services.controlplane.xds.service import Discovery, LoadReports

if TYPE_CHECKING:
    import grpc.aio

    from services.controlplane.publishing.publisher import Publisher


OF_OWNERS = ("Publish", "PublishChange", "Rollback", "GetRevision", "GetRevisions", "ListRevisions")
"""Methods of the admin API that owners may call, beside the operator."""


def admits(
    *, rules: Collection[str], xds: Collection[str], load_reports: Collection[str]
) -> Mapping[str, Collection[str]]:
    """Which roles may call which service, if peers authenticate: owners may publish, the operator administers.

    Args:
        rules: roles that may subscribe to rules.
        xds: roles that may ask for xDS resources.
        load_reports: roles that may report their load.
    """
    admin = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
    return {
        admin: (),
        **{f"/{admin}/{each}": (OWNER,) for each in OF_OWNERS},
        faults_pb2.DESCRIPTOR.services_by_name["Faults"].full_name: (),
        replicas_pb2.DESCRIPTOR.services_by_name["Replicas"].full_name: ("model",),
        rules_pb2.DESCRIPTOR.services_by_name["Rules"].full_name: rules,
        ads_pb2.DESCRIPTOR.services_by_name["AggregatedDiscoveryService"].full_name: xds,
        lrs_pb2.DESCRIPTOR.services_by_name["LoadReportingService"].full_name: load_reports,
    }


def add_apis(
    server: grpc.aio.Server,
    publisher: Publisher,
    audit_log: AuditLog | None = None,
    *,
    admission: Admission | None = None,
    clusters_idle_after_s: float = 0.0,
    clusters_unasked: int = 0,
    zones: Zones | None = None,
) -> None:
    """Adds admin, faults, registration, rules, xDS and load reporting to the server.

    Args:
        server: its :class:`lab.transport.rpc_logs.Audited` interceptor writes to the audit log.
        publisher: answers the calls.
        audit_log: takes the acts that replicas report; a new one over the publisher's registry by default.
        admission: of nodes; by default every node is admitted.
        clusters_idle_after_s: how long an Envoy keeps a cluster that it does not use, seconds; 0 for ever.
        clusters_unasked: limit of an Envoy's keys up to which it gets all their clusters before any request.
        zones: of the lab; none if left out.
    """
    audit_log = audit_log or AuditLog(publisher.registry)
    admission = admission or Admission(publisher.registry)
    admin_pb2_grpc.add_AdminServicer_to_server(AdminServicer(publisher, audit_log, admission), server)
    faults_pb2_grpc.add_FaultsServicer_to_server(FaultsServicer(publisher), server)
    replicas_pb2_grpc.add_ReplicasServicer_to_server(ReplicasServicer(publisher.fleet.membership, audit_log), server)
    rules_pb2_grpc.add_RulesServicer_to_server(RulesServicer(publisher.fleet.feed, admission), server)
    zones = zones or Zones()
    publisher.fleet.feed.zones = zones
    discovery = Discovery(
        publisher.fleet.store, clusters_idle_after_s, admission, clusters_unasked=clusters_unasked, zones=zones
    )
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(discovery, server)
    lrs_pb2_grpc.add_LoadReportingServiceServicer_to_server(LoadReports(discovery), server)
