"""The admin API: what the command line asks of the control plane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import orjson
from google.protobuf import timestamp_pb2

from lab.errors import PublishError, RouteTableError
from lab.routing.document import RouteTable, Source, read_sources
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from services.controlplane.publish import StaleRevisionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.controlplane.publish import Publisher
    from services.controlplane.registry import Event, StoredRevision
    from services.controlplane.subscribers import Subscribers

    Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """Publishes, and answers questions about revisions and nodes."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._publishes: set[asyncio.Task[int]] = set()

    async def Publish(  # noqa: N802 (the protocol's name)
        self, request: admin_pb2.PublishRequest, context: Context
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        """Validates and publishes a route table."""
        try:
            table = read_sources([Source(each.name, each.text) for each in request.sources])
        except RouteTableError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        async for progress in self._carry_out(
            table, context, author=request.author, comment=request.comment, expected_revision=request.expected_revision
        ):
            yield progress

    async def Rollback(  # noqa: N802 (the protocol's name)
        self, request: admin_pb2.RollbackRequest, context: Context
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        """Publishes an earlier revision's route table anew."""
        stored = await self._stored(request.revision, context)
        table = RouteTable.from_document(stored.document)
        comment = f"rollback to revision {stored.revision}"
        async for progress in self._carry_out(
            table, context, author=request.author, comment=comment, expected_revision=0
        ):
            yield progress

    async def GetRevision(  # noqa: N802 (the protocol's name)
        self, request: admin_pb2.GetRevisionRequest, context: Context
    ) -> admin_pb2.Revision:
        """One revision, with its route table."""
        stored = await self._stored(request.revision or self._publisher.revision, context)
        return self._revision(stored, orjson.dumps(stored.document))

    async def ListRevisions(  # noqa: N802 (the protocol's name)
        self,
        request: admin_pb2.ListRevisionsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> admin_pb2.ListRevisionsResponse:
        """All revisions, oldest first, without their route tables."""
        revisions = [self._revision(each, b"") for each in self._publisher.registry.all()]
        return admin_pb2.ListRevisionsResponse(revisions=revisions)

    async def GetStatus(  # noqa: N802 (the protocol's name)
        self,
        request: admin_pb2.GetStatusRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> admin_pb2.Status:
        """Who is connected, and how far each has come."""
        publisher = self._publisher
        nodes = [*_nodes(publisher.store.subscribers), *_nodes(publisher.feed.subscribers)]
        replicas = [
            admin_pb2.Replica(
                cluster=each.cluster,
                replica=each.replica,
                address=each.address,
                loaded=sorted(each.loaded),
                draining=each.draining,
            )
            for each in publisher.membership.members
        ]
        return admin_pb2.Status(
            revision=publisher.revision, nodes=sorted(nodes, key=lambda node: node.node), replicas=replicas
        )

    async def _carry_out(
        self, table: RouteTable, context: Context, *, author: str, comment: str, expected_revision: int
    ) -> AsyncIterator[admin_pb2.PublishProgress]:
        events: asyncio.Queue[admin_pb2.PublishProgress | None] = asyncio.Queue()
        # A task of its own: whoever stops watching does not stop the publish half-way.
        task = asyncio.create_task(
            self._publisher.publish(
                table,
                author=author,
                comment=comment,
                expected_revision=expected_revision,
                progress=lambda revision, event: events.put_nowait(_progress(revision, event)),
            )
        )
        self._publishes.add(task)
        task.add_done_callback(self._publishes.discard)
        task.add_done_callback(lambda _: events.put_nowait(None))
        while (event := await events.get()) is not None:
            yield event
        try:
            await task
        except StaleRevisionError as error:
            await context.abort(grpc.StatusCode.ABORTED, str(error))
        except PublishError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def _stored(self, revision: int, context: Context) -> StoredRevision:
        stored = self._publisher.registry.get(revision)
        if stored is None:
            known = len(self._publisher.registry.all())
            what = f"revision {revision} does not exist; there are {known}" if revision else "nothing is published yet"
            await context.abort(grpc.StatusCode.NOT_FOUND, what)
        return stored

    def _revision(self, stored: StoredRevision, document: bytes) -> admin_pb2.Revision:
        return admin_pb2.Revision(
            revision=stored.revision,
            author=stored.author,
            comment=stored.comment,
            created=_timestamp(stored.created_ns),
            document=document,
            progress=[_progress(stored.revision, event) for event in stored.events],
            in_force=stored.revision == self._publisher.revision,
        )


def _nodes(subscribers: Subscribers) -> list[admin_pb2.Node]:
    return [
        admin_pb2.Node(
            node=each.node,
            role=each.role,
            acked_revision=subscribers.revision_applied_by(each),
            error=each.error,
        )
        for each in subscribers
    ]


def _progress(revision: int, event: Event) -> admin_pb2.PublishProgress:
    return admin_pb2.PublishProgress(
        revision=revision,
        phase=admin_pb2.Phase.Value(f"PHASE_{event.phase.name}"),
        at=_timestamp(event.at_ns),
        detail=event.detail,
    )


def _timestamp(unix_ns: int) -> timestamp_pb2.Timestamp:
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
