"""The client of the control plane's admin API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Self, TypeAlias

import grpc

from lab.client.admin_values import Act, ControlPlaneStatus, ListedNode, PublishProgress, Registrations, RevisionInfo
from lab.errors import InputError, LabError, LabNotRunningError, NotOwnedError, PublishError, StaleRevisionError
from lab.transport import ChannelCache, Security, open_blocking_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc

Tables: TypeAlias = dict[tuple[int, int], dict[str, Any]]
"""Cache of route tables by revision and its creation time, since each lab counts from 1; a table never changes."""

_SHORT_S = 5.0
_TABLES_S = 30.0  # for a batch of route tables; each may be megabytes
_BATCH = 50
_PUBLISH_S = 120.0


class AdminClient:
    """A client of one control plane, or of several that share a registry; use it as a context manager.

    Every method raises :class:`LabNotRunningError` if no control plane can be reached.

    Args:
        address: ``host:port``, or several, comma-separated. Requests go to the first that can be reached, except
            for the status: each control plane lists only the nodes connected to itself, so all are asked.
        channels: cache to take the channel for status requests from, for callers that poll with a new client each
            time; its own channel by default.
        security: credentials; those registered for the control plane by default.
    """

    def __init__(self, address: str, channels: ChannelCache | None = None, security: Security | None = None) -> None:
        self._address = address
        self._channels = channels
        self._channel = open_blocking_channel(address, security)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)
        self._each = [AdminClient(one, channels, security) for one in address.split(",")] if "," in address else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        for each in self._each:
            each.__exit__()

    def status(self, *, replicas: bool = True) -> ControlPlaneStatus:
        """The revision in force, connected nodes, and registered replicas; ``replicas=False`` leaves out the latter."""
        request = admin_pb2.GetStatusRequest(without_replicas=not replicas)
        return ControlPlaneStatus.merged(list(map(ControlPlaneStatus.of, self._statuses(request))))

    def registrations(self) -> list[Registrations]:
        """When which replicas were registered, as each control plane knows it."""
        request = admin_pb2.GetStatusRequest(without_replicas=True, registrations=True)
        return list(map(Registrations.of, self._statuses(request)))

    def _statuses(self, request: admin_pb2.GetStatusRequest) -> list[admin_pb2.Status]:
        """Returns the status of each control plane that answers."""
        if not self._each:
            return [self._get_status(request)]
        found = []
        for each in self._each:
            with suppress(LabNotRunningError):
                found.append(each._get_status(request))  # noqa: SLF001 (the same class)
        if not found:
            raise LabNotRunningError(f"no control plane at {self._address} answers; see `lab status`")
        return found

    def _get_status(self, request: admin_pb2.GetStatusRequest) -> admin_pb2.Status:
        def get_status(channel: grpc.Channel, within_s: float) -> admin_pb2.Status:
            return admin_pb2_grpc.AdminStub(channel).GetStatus(request, timeout=within_s)

        with self._errors():
            if self._channels is None:
                return get_status(self._channel, _SHORT_S)
            return self._channels.call(self._address, get_status, timeout_s=_SHORT_S)

    def publish(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        author: str,
        comment: str = "",
        expected_revision: int = 0,
        unsafe_skip_phases: bool = False,
        callers: Collection[str] = (),
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes a route table and returns its revision once every node has converged.

        Args:
            sources: name and text of each file.
            author: who publishes.
            comment: why.
            expected_revision: refuse unless this revision is in force; 0 accepts any.
            unsafe_skip_phases: send rules at once, before models have loaded; for demonstration, requests fail.
            callers: publish to these only, besides those for whom the same table is staged; to all if there are none.
            progress: called with each step, and from time to time while a step waits.

        Raises:
            InputError: the route table is not valid.
            StaleRevisionError: a revision other than the expected one is in force.
            PublishError: a phase failed; the previous revision stays in force.
            NotOwnedError: the publisher does not own all that changes.
        """
        request = admin_pb2.PublishRequest(
            sources=[admin_pb2.SourceFile(name=name, text=text) for name, text in sources],
            author=author,
            comment=comment,
            expected_revision=expected_revision,
            unsafe_skip_phases=unsafe_skip_phases,
            callers=callers,
        )
        return self._published(self._stub.Publish, request, progress)

    def publish_change(
        self,
        use_cases: Mapping[str, tuple[str, str]],
        *,
        models: Mapping[str, tuple[str, str]] | None = None,
        author: str,
        comment: str = "",
        expected_revision: int = 0,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes changes to some use cases and models; the rest of the route table stays.

        Both map names to name and text of a file with that section. All else is as for :meth:`publish`.
        """
        request = admin_pb2.PublishChangeRequest(
            use_cases=[
                admin_pb2.ChangedUseCase(name=name, source=admin_pb2.SourceFile(name=file, text=text))
                for name, (file, text) in use_cases.items()
            ],
            models=[
                admin_pb2.ChangedModel(name=name, source=admin_pb2.SourceFile(name=file, text=text))
                for name, (file, text) in (models or {}).items()
            ],
            author=author,
            comment=comment,
            expected_revision=expected_revision,
        )
        return self._published(self._stub.PublishChange, request, progress)

    def rollback(
        self,
        revision: int,
        *,
        author: str,
        comment: str = "",
        expected_revision: int = 0,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes an earlier revision's route table again and returns the new revision.

        Args:
            revision: whose table; 0 for the one in force for all callers, which takes a staged one back.
            author: who publishes.
            comment: why.
            expected_revision: as for :meth:`publish`.
            progress: as there.

        Raises:
            InputError: there is no such revision, or none is staged; the others are as for :meth:`publish`.
        """
        request = admin_pb2.RollbackRequest(
            revision=revision, author=author, comment=comment, expected_revision=expected_revision
        )
        return self._published(self._stub.Rollback, request, progress)

    def _published(self, rpc: Any, request: Any, progress: Callable[[PublishProgress], None]) -> int:
        revision = 0
        with self._errors():
            for event in rpc(request, timeout=_PUBLISH_S):
                revision = event.revision
                progress(PublishProgress.of(event))
        return revision

    def revision(self, revision: int = 0, *, caller: str = "") -> RevisionInfo:
        """One revision with its route table; 0 for the one in force for a caller, or for all.

        Raises:
            InputError: there is no such revision.
        """
        with self._errors():
            request = admin_pb2.GetRevisionRequest(revision=revision, caller=caller)
            return RevisionInfo.of(self._stub.GetRevision(request, timeout=_TABLES_S))

    def revisions(
        self, tables: Tables | None = None, *, since_ns: int = 0, named: Collection[int] = ()
    ) -> list[RevisionInfo]:
        """Revisions, oldest first; with their route tables if a cache for these is given.

        Args:
            tables: cache of route tables; missing ones are fetched and added.
            since_ns: leaves out revisions that were replaced before this time, Unix nanoseconds.
            named: revisions to include all the same, if they exist.
        """
        request = admin_pb2.ListRevisionsRequest()
        request.since.FromNanoseconds(since_ns)
        with self._errors():
            listing = self._stub.ListRevisions(request, timeout=_TABLES_S)
        found = {each.revision: RevisionInfo.of(each) for each in listing.revisions}
        wanted = set(named) - found.keys()
        if tables is not None:
            wanted |= {each.revision for each in found.values() if each.key not in tables}
        for each in self._with_tables(sorted(wanted)):
            found[each.revision] = replace(each, document=None)
            if tables is not None:
                tables[each.key] = each.document or {}
        in_order = sorted(found.values(), key=lambda each: each.revision)
        return in_order if tables is None else [replace(each, document=tables[each.key]) for each in in_order]

    def _with_tables(self, revisions: Sequence[int]) -> list[RevisionInfo]:
        """Those of these revisions that exist, with their route tables."""
        found: list[RevisionInfo] = []
        for first in range(0, len(revisions), _BATCH):
            request = admin_pb2.GetRevisionsRequest(revisions=revisions[first : first + _BATCH])
            with self._errors():
                found += map(RevisionInfo.of, self._stub.GetRevisions(request, timeout=_TABLES_S))
        return found

    def nodes(self) -> list[ListedNode]:
        """The nodes that are planned, admitted or refused, from all control planes that answer."""
        found: list[ListedNode] = []
        for each in self._each or [self]:
            with suppress(LabNotRunningError) if self._each else nullcontext(), each._errors():  # noqa: SLF001 (the same class)
                found += map(ListedNode.of, each._stub.ListNodes(admin_pb2.ListNodesRequest(), timeout=_SHORT_S).nodes)  # noqa: SLF001
        return ListedNode.merged(found)

    def admit_node(self, node: str, caller: str = "") -> str:
        """Admits a node beside those of the plan, and returns the caller for which it may act.

        Raises:
            InputError: there is no such caller, or it must be named.
        """
        request = admin_pb2.AdmitNodeRequest(node=node, caller=caller)
        with self._errors():
            return self._stub.AdmitNode(request, timeout=_SHORT_S).caller

    def acts(self, last: int = 0) -> list[Act]:
        """The latest ``last`` acts of the audit log, or all for 0; oldest first."""
        with self._errors():
            listing = self._stub.ListActs(admin_pb2.ListActsRequest(last=last), timeout=_SHORT_S)
        return [Act.of(each) for each in listing.acts]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                raise InputError(details) from None
            if code is grpc.StatusCode.ABORTED:
                raise StaleRevisionError(details) from None
            if code is grpc.StatusCode.FAILED_PRECONDITION:
                raise PublishError(details) from None
            if code is grpc.StatusCode.PERMISSION_DENIED:
                raise NotOwnedError(details) from None
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise LabNotRunningError(
                    f"the control plane at {self._address} does not answer ({details}); see `lab status`"
                ) from None
            raise LabError(f"control plane: {code.name}: {details}") from error
