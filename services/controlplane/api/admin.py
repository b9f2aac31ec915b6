"""The admin API: publishing, rollback, revisions, status and the audit log, for the ``lab`` command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import orjson

from lab.errors import InputError, LabError, NotOwnedError, PublishError, RouteTableError, StaleRevisionError
from lab.identity import OWNER
from lab.plain_text import MAX_CHARACTERS, printable, require_plain
from lab.routing.document import RouteTable, Source, read_sources
from lab.routing.edits import sharing, with_changes
from lab.routing.owners import require_owned
from lab.transport import peer_identity
from lab.transport.memory_guard import LARGE_BYTES, expecting_growth
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from services.controlplane.api.audit import AuditLog, timestamp
from services.controlplane.api.nodes import listed
from services.controlplane.registry.records import ENDS, Acknowledgement, Event, Phase, StoredRevision

if TYPE_CHECKING:
    from google.protobuf import timestamp_pb2

    from services.controlplane.nodes.admission import Admission
    from services.controlplane.nodes.registration_log import Registration
    from services.controlplane.nodes.subscribers import Subscriber, Subscribers
    from services.controlplane.publishing.phase_progress import PhaseProgress
    from services.controlplane.publishing.publisher import Publisher

    Context = grpc.aio.ServicerContext[Any, Any]

MAX_COMMENT_CHARACTERS = 500
"""Of a revision's author and of its comment."""


_STATUS: Mapping[type[LabError], grpc.StatusCode] = {
    RouteTableError: grpc.StatusCode.INVALID_ARGUMENT,
    NotOwnedError: grpc.StatusCode.PERMISSION_DENIED,
    StaleRevisionError: grpc.StatusCode.ABORTED,
    PublishError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Of a publish that is refused or fails, by the first class that it is of."""


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """Publishes, and answers queries about revisions and nodes."""

    def __init__(self, publisher: Publisher, audit_log: AuditLog, admission: Admission) -> None:
        self._publisher, self._audit_log, self._admission = publisher, audit_log, admission
        self._now_ns = publisher.registry.clock.now_ns
        self._publishes: set[asyncio.Task[int]] = set()

    async def Publish(
        self, request: admin_pb2.PublishRequest, context: Context
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        """Validates and publishes a route table."""
        called_ns = self._now_ns()
        if request.callers and request.unsafe_skip_phases:
            reason = "callers: a publish without phases goes to all; leave one of the two out"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        try:
            with expecting_growth(request.ByteSize()):
                table = read_sources([_source(each) for each in request.sources])
        except RouteTableError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        async for progress in self._carry_out(
            lambda before: sharing(table, before),
            context,
            author=printable(request.author, MAX_COMMENT_CHARACTERS),
            comment=printable(request.comment, MAX_COMMENT_CHARACTERS),
            expected_revision=request.expected_revision,
            size=request.ByteSize(),
            called_ns=called_ns,
            unsafe_skip_phases=request.unsafe_skip_phases,
            callers=frozenset(request.callers),
        ):
            yield progress

    async def PublishChange(
        self, request: admin_pb2.PublishChangeRequest, context: Context
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        """Validates and publishes changed use cases and models; the rest of the table stays."""
        use_cases, models = (
            {each.name: _source(each.source) for each in entries} for entries in (request.use_cases, request.models)
        )
        async for progress in self._carry_out(
            lambda before: with_changes(before, use_cases=use_cases, models=models),
            context,
            author=printable(request.author, MAX_COMMENT_CHARACTERS),
            comment=printable(request.comment, MAX_COMMENT_CHARACTERS),
            expected_revision=request.expected_revision,
            size=request.ByteSize(),
            called_ns=self._now_ns(),
            ends_stage=False,
        ):
            yield progress

    async def Rollback(
        self, request: admin_pb2.RollbackRequest, context: Context
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        """Publishes an earlier revision's route table as a new revision, or takes the stage back."""
        called_ns, stage = self._now_ns(), self._publisher.in_force.stage
        if not request.revision and stage is None:
            reason = "no revision is staged: name the revision whose route table to publish again"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        stored = await self._stored(request.revision or self._publisher.revision, context)
        what = f"rollback to revision {stored.revision}" if request.revision else f"rollback of {stage}"
        table = RouteTable.of_valid(self._publisher.registry.document(stored.revision))
        async for progress in self._carry_out(
            lambda before: sharing(table, before),
            context,
            author=printable(request.author, MAX_COMMENT_CHARACTERS),
            comment=printable(request.comment or what, MAX_COMMENT_CHARACTERS),
            expected_revision=request.expected_revision or (0 if request.revision or not stage else stage.revision),
            size=LARGE_BYTES,  # it may be
            called_ns=called_ns,
        ):
            yield progress

    async def GetRevision(self, request: admin_pb2.GetRevisionRequest, context: Context) -> admin_pb2.Revision:
        """One revision, with its route table."""
        in_force, _ = self._publisher.in_force.of(request.caller)
        stored = await self._stored(request.revision or in_force, context)
        return self._revision(stored, with_table=True)

    async def GetRevisions(
        self, request: admin_pb2.GetRevisionsRequest, context: Context
    ) -> AsyncIterator[admin_pb2.Revision]:
        """The existing ones of several revisions, with their route tables."""
        for revision in request.revisions:
            if stored := self._publisher.registry.get(revision):
                yield self._revision(stored, with_table=True)

    async def ListRevisions(
        self, request: admin_pb2.ListRevisionsRequest, context: Context
    ) -> admin_pb2.ListRevisionsResponse:
        """All revisions, oldest first, or those in force since a time, without their route tables."""
        found = self._publisher.registry.all(request.since.ToNanoseconds())
        return admin_pb2.ListRevisionsResponse(revisions=[self._revision(each) for each in found])

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, context: Context) -> admin_pb2.Status:
        """The connected nodes, the revision each has acknowledged, and the replicas."""
        publisher, stage = self._publisher, self._publisher.in_force.stage
        replicas = [
            admin_pb2.Replica(
                cluster=each.cluster,
                replica=each.replica,
                address=each.address,
                loaded=sorted(each.loaded),
                draining=each.draining,
            )
            for each in (() if request.without_replicas else publisher.fleet.membership.members)
        ]
        status = admin_pb2.Status(
            revision=publisher.revision,
            staged_revision=stage.revision if stage else 0,
            staged_callers=sorted(stage.callers) if stage else (),
            nodes=sorted((node for its in self._subscribers for node in _nodes(its, its)), key=lambda node: node.node),
            away=[node for its in self._subscribers for node in _nodes(its, its.away.values())],
            replicas=replicas,
        )
        if request.registrations:
            log = publisher.fleet.membership.registrations
            status.registrations.extend(map(_registration, log.registrations))
            status.registrations_since.CopyFrom(timestamp(log.since_ns))
        return status

    async def ListNodes(self, request: admin_pb2.ListNodesRequest, context: Context) -> admin_pb2.ListNodesResponse:
        """The planned, admitted and refused nodes."""
        connected = (each for subscribers in self._subscribers for each in subscribers)
        return admin_pb2.ListNodesResponse(nodes=listed(self._admission, connected))

    async def AdmitNode(self, request: admin_pb2.AdmitNodeRequest, context: Context) -> admin_pb2.AdmitNodeResponse:
        """Admits a node beside those of the plan."""
        try:
            require_plain("node", request.node)
            return admin_pb2.AdmitNodeResponse(caller=self._admission.admit(request.node, request.caller))
        except (InputError, ValueError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def ListActs(self, request: admin_pb2.ListActsRequest, context: Context) -> admin_pb2.ListActsResponse:
        """The audit log."""
        return admin_pb2.ListActsResponse(acts=self._audit_log.acts(request.last))

    async def _carry_out(
        self,
        table_after: Callable[[RouteTable], RouteTable],
        context: Context,
        *,
        size: int,
        called_ns: int,
        **options: Any,
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        events: asyncio.Queue[admin_pb2.PublishProgress | None] = asyncio.Queue()
        called = timestamp(called_ns)
        if owner := _owner(context):
            table_after = partial(_owned, owner, table_after)
            options["author"] = printable(f"{options['author']} as {owner}", MAX_COMMENT_CHARACTERS)

        def report(revision: int, event: Event) -> None:
            message = _progress(revision, event, called)
            if event.phase in ENDS:
                message.acknowledgements.extend(self._acknowledgements(revision))
                for subscribers in self._subscribers:
                    message.left_behind.extend(_nodes(subscribers, subscribers.behind_by_now))
            events.put_nowait(message)

        async def publish() -> int:
            with expecting_growth(size):
                return await self._publisher.publish(
                    table_after,
                    progress=report,
                    waiting=lambda revision, seen: events.put_nowait(_waiting(revision, seen, called, self._now_ns())),
                    called_ns=called_ns,
                    **options,
                )

        # Its own task, so that a caller that disconnects does not interrupt the publish.
        task = asyncio.create_task(publish())
        self._publishes.add(task)
        task.add_done_callback(self._publishes.discard)
        task.add_done_callback(lambda _: events.put_nowait(None))
        while (event := await events.get()) is not None:
            yield event
        try:
            await task
        except tuple(_STATUS) as error:
            await context.abort(next(code for kind, code in _STATUS.items() if isinstance(error, kind)), str(error))

    async def _stored(self, revision: int, context: Context) -> StoredRevision:
        stored = self._publisher.registry.get(revision)
        if stored is None:
            known = len(self._publisher.registry.all())
            what = f"revision {revision} does not exist; there are {known}" if revision else "nothing is published yet"
            await context.abort(grpc.StatusCode.NOT_FOUND, what)
        return stored

    def _revision(self, stored: StoredRevision, *, with_table: bool = False) -> admin_pb2.Revision:
        return admin_pb2.Revision(
            revision=stored.revision,
            author=stored.author,
            comment=stored.comment,
            created=timestamp(stored.created_ns),
            document=orjson.dumps(self._publisher.registry.document(stored.revision)) if with_table else b"",
            progress=[_progress(stored.revision, event, timestamp(stored.created_ns)) for event in stored.events],
            in_force=stored.revision in {self._publisher.revision, self._publisher.in_force.latest},
            callers=stored.callers,
            acknowledgements=[_acknowledgement(each) for each in stored.acknowledgements],
        )

    @property
    def _subscribers(self) -> tuple[Subscribers, Subscribers]:
        return self._publisher.fleet.sidecars, self._publisher.fleet.routers

    def _acknowledgements(self, revision: int) -> list[admin_pb2.Acknowledgement]:
        stored = self._publisher.registry.get(revision)
        return [_acknowledgement(each) for each in stored.acknowledgements] if stored else []


def _owner(context: Context) -> str:
    """Identity of the publisher at the other end; empty for the operator, and in plaintext."""
    identity = peer_identity(context)
    return identity.name if identity is not None and identity.role == OWNER else ""


def _owned(owner: str, table_after: Callable[[RouteTable], RouteTable], before: RouteTable) -> RouteTable:
    """The table after a change, which must be within what its publisher owns."""
    after = table_after(before)
    require_owned(owner, before, after)
    return after


def _source(file: admin_pb2.SourceFile) -> Source:
    return Source(printable(file.name, MAX_CHARACTERS), file.text)


def _nodes(subscribers: Subscribers, which: Iterable[Subscriber]) -> list[admin_pb2.Node]:
    return [
        admin_pb2.Node(
            node=each.node,
            role=each.role,
            acked_revision=subscribers.revision_applied_by(each),
            error=each.error,
            clusters=each.clusters,
            clusters_left=each.clusters_left,
            behind=each.is_behind,
        )
        for each in which
    ]


def _registration(each: Registration) -> admin_pb2.Registration:
    ended = None if each.ended_ns is None else timestamp(each.ended_ns)
    return admin_pb2.Registration(
        cluster=each.cluster, replica=each.replica, began=timestamp(each.began_ns), ended=ended
    )


def _progress(revision: int, event: Event, called: timestamp_pb2.Timestamp) -> admin_pb2.PublishProgress:
    return admin_pb2.PublishProgress(
        revision=revision, phase=_phase(event.phase), at=timestamp(event.at_ns), detail=event.detail, called=called
    )


def _waiting(
    revision: int, seen: PhaseProgress, called: timestamp_pb2.Timestamp, now_ns: int
) -> admin_pb2.PublishProgress:
    return admin_pb2.PublishProgress(
        revision=revision,
        phase=_phase(seen.phase),
        at=timestamp(now_ns),
        called=called,
        waiting=admin_pb2.Waiting(done=seen.done, total=seen.total, waiting_for=seen.waiting_for),
    )


def _acknowledgement(each: Acknowledgement) -> admin_pb2.Acknowledgement:
    return admin_pb2.Acknowledgement(
        node=each.node, role=each.role, sent=timestamp(each.sent_ns), at=timestamp(each.at_ns)
    )


def _phase(phase: Phase) -> admin_pb2.Phase.ValueType:
    return admin_pb2.Phase.Value(f"PHASE_{phase.name}")
