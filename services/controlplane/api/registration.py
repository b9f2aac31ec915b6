"""The registration API: a stream carries one replica's reports, or those of all replicas of a host."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.plain_text import MAX_CHARACTERS, printable, require_plain
from lab.routing.uses import Grant
from lab.transport import is_operator, peer_identity
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc
from services.controlplane.nodes.membership import ASKED_NOTHING, HOST_TIMEOUT_S, Member, Membership

if TYPE_CHECKING:
    from services.controlplane.api.audit import AuditLog
    from services.controlplane.nodes.assignments import Version

    Context = grpc.aio.ServicerContext[Any, Any]

_NO_GRANT = Grant()

log = logging.getLogger(__name__)


class ReplicasServicer(replicas_pb2_grpc.ReplicasServicer):
    """Serves registration streams."""

    def __init__(self, membership: Membership, audit_log: AuditLog) -> None:
        self._membership, self._audit_log = membership, audit_log

    async def Register(
        self, request_iterator: AsyncIterator[replicas_pb2.ReplicaReport], context: Context
    ) -> AsyncIterator[replicas_pb2.Assignment]:
        """See :meth:`Membership.serve`; a replica may only register in the cluster that its certificate names."""
        identity, impostor, invalid = peer_identity(context), "", ""
        first: Member | None = None

        async def own_reports() -> AsyncIterator[Sequence[Member]]:
            nonlocal impostor, invalid, first
            async for report in request_iterator:
                if identity is not None and not is_operator(identity) and report.cluster != identity.name:
                    impostor = f"{identity.uri} may not be a replica of {report.cluster!r}"
                    return
                try:
                    member = _member(report)
                except ValueError as error:
                    invalid = str(error)
                    return
                if report.acts:
                    self._audit_log.take_over(report.replica, report.acts)
                # The first report identifies the replica; later ones cannot change that.
                first = first or member
                yield [_as(first, member)]

        async for revision, assignments in self._membership.serve(own_reports()):
            suspension = self._membership.suspension
            for versions in assignments.values():
                yield replicas_pb2.Assignment(
                    revision=revision,
                    versions=_versions(versions, self._membership.grants),
                    suspension=replicas_pb2.Suspension(
                        number=suspension.number,
                        callers=sorted(suspension.callers),
                        gateways=sorted(suspension.gateways),
                    ),
                )
        if invalid:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, invalid)
        if impostor:
            log.warning("refused: %s", impostor)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, impostor)

    async def RegisterHost(
        self, request_iterator: AsyncIterator[replicas_pb2.HostReport], context: Context
    ) -> AsyncIterator[replicas_pb2.HostAssignment]:
        """See :meth:`Membership.serve`; a replica's certificate does not allow registering others."""
        identity = peer_identity(context)
        if identity is not None and not is_operator(identity):
            reason = f"{identity.uri} may not speak for many clusters"
            log.warning("refused: %s", reason)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

        invalid = ""

        async def reports() -> AsyncIterator[Sequence[Member]]:
            nonlocal invalid
            async for report in request_iterator:
                try:
                    members = [replace(_member(each), suspension=ASKED_NOTHING) for each in report.replicas]
                except ValueError as error:
                    invalid = str(error)
                    return
                yield members

        async for revision, assignments in self._membership.serve(reports(), timeout_s=HOST_TIMEOUT_S):
            yield replicas_pb2.HostAssignment(
                revision=revision,
                clusters=[
                    replicas_pb2.ClusterAssignment(
                        cluster=cluster, versions=_versions(versions, self._membership.grants)
                    )
                    for cluster, versions in assignments.items()
                ],
            )
        if invalid:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, invalid)


def _versions(versions: Iterable[Version], grants: Mapping[str, Grant]) -> list[replicas_pb2.AssignedVersion]:
    return [
        replicas_pb2.AssignedVersion(
            routing_key=each.routing_key,
            model=each.model,
            version=each.version,
            callers=sorted(grant.callers),
            apis=sorted(grant.apis),
        )
        for each in versions
        for grant in [grants.get(each.routing_key, _NO_GRANT)]
    ]


def _as(first: Member, member: Member) -> Member:
    if (first.cluster, first.replica) == (member.cluster, member.replica):
        return member
    return replace(member, cluster=first.cluster, replica=first.replica)


def _member(report: replicas_pb2.ReplicaReport) -> Member:
    """The member that a report describes.

    Raises:
        ValueError: a name in it is not plain text.
    """
    for field in ("cluster", "replica", "address"):
        require_plain(field, getattr(report, field))
    for key in report.loaded:
        require_plain("loaded", key)
    return Member(
        cluster=report.cluster,
        replica=report.replica,
        address=report.address,
        loaded=frozenset(report.loaded),
        failures=tuple(
            (printable(each.routing_key, MAX_CHARACTERS), printable(each.reason, MAX_CHARACTERS))
            for each in report.failures
        ),
        revision=report.revision,
        draining=report.draining,
        suspension=report.suspension,
    )
