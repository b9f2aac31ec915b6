"""The operator's side of the control plane: publish, roll back, look; for code without an event loop."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc

from lab.errors import InputError, LabError, LabNotRunningError, PublishError, StaleRevisionError
from lab.transport import open_blocking_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

_SHORT_S = 5.0
_TABLES_S = 30.0  # of route tables there may be hundreds, or one of megabytes
_PUBLISH_S = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a revision.

    Attributes:
        phase: ``stored``, ``loaded``, ``endpoints``, ``converged``, ``retired`` or ``failed``.
        at_ns: Unix nanoseconds.
    """

    phase: str
    at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A node that holds a revision wholly.

    Attributes:
        role: ``sidecar``, ``resolver`` or ``gateway``.
        sent_ns: when its part was sent (clusters and endpoints, or rules), Unix nanoseconds.
        at_ns: when it had put that in force.
    """

    node: str
    role: str
    sent_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """How far a phase has come: ``done`` of ``total`` have answered, ``waiting_for`` have not."""

    done: int
    total: int
    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """A word of a publish that is under way.

    Attributes:
        step: what has been reached, or is being waited for.
        waiting: how far that has come; None once it has been reached.
        acknowledgements: of the nodes, with ``converged`` and ``failed``.
        called_ns: when the call to publish arrived, Unix nanoseconds.
    """

    revision: int
    step: Step
    waiting: Waiting | None
    acknowledgements: tuple[Acknowledgement, ...]
    called_ns: int


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """A published route table and what became of it.

    Attributes:
        created_ns: when the call to publish it arrived, Unix nanoseconds.
        document: in the shape of ``routes.yaml``; None in listings.
    """

    revision: int
    author: str
    comment: str
    created_ns: int
    in_force: bool
    steps: tuple[Step, ...]
    acknowledgements: tuple[Acknowledgement, ...]
    document: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Node:
    """A connected sidecar, resolver or gateway.

    Attributes:
        acked_revision: the latest that it holds wholly.
        error: why it refused a later one.
        clusters: of an Envoy, those that it holds because it has asked for them.
        clusters_left: of these, how many have left it since it connected, as nobody used them.
    """

    node: str
    role: str
    acked_revision: int
    error: str
    clusters: int = 0
    clusters_left: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """A registered model replica; ``loaded`` are routing keys."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]
    draining: bool


@dataclass(frozen=True, slots=True)
class ControlPlaneStatus:
    """What the control plane knows; ``revision`` 0 means that nothing is published."""

    revision: int
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody did, or tried to.

    Attributes:
        number: counts on, by whoever keeps it.
        at_ns: Unix nanoseconds.
        who: the SPIFFE id that the connection has proved; else its address, with ``unproved`` before it. Of what the
            lab keeps: the operating system's user, and the operator's SPIFFE id if there is one.
        unit: at which.
        what: full name of the RPC; of what the lab keeps, what was done in the command's words.
        detail: what with.
        status: name of the status that it ended with; empty if it has not ended, or was cut off.
        reason: why it failed, or was refused.
        kept_by: ``control-plane``, of what units were asked for; ``lab``, of what was done to them from outside.
    """

    number: int
    at_ns: int
    who: str
    unit: str
    what: str
    detail: str
    status: str
    reason: str
    kept_by: str = "control-plane"


class AdminClient:
    """Talks to the control plane; use it as a context manager.

    Every method raises :class:`LabNotRunningError` if the control plane cannot be reached.

    Args:
        address: its ``host:port``; of several that serve the same revisions all, with commas between. The first that
            can be reached is asked, but for who is connected, which each knows of itself.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = open_blocking_channel(address)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)
        self._each = [AdminClient(one) for one in address.split(",")] if "," in address else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        for each in self._each:
            each.__exit__()

    def status(self, *, replicas: bool = True) -> ControlPlaneStatus:
        """Who is connected, and how far each has come; without ``replicas`` where there are thousands."""
        if self._each:
            return self._status_of_all(replicas=replicas)
        with self._errors():
            request = admin_pb2.GetStatusRequest(without_replicas=not replicas)
            status = self._stub.GetStatus(request, timeout=_SHORT_S)
        return ControlPlaneStatus(
            status.revision,
            tuple(
                Node(each.node, each.role, each.acked_revision, each.error, each.clusters, each.clusters_left)
                for each in status.nodes
            ),
            tuple(
                Replica(each.cluster, each.replica, each.address, tuple(each.loaded), each.draining)
                for each in status.replicas
            ),
        )

    def _status_of_all(self, *, replicas: bool) -> ControlPlaneStatus:
        found = []
        for each in self._each:
            with suppress(LabNotRunningError):
                found.append(each.status(replicas=replicas))
        if not found:
            raise LabNotRunningError(f"no control plane at {self._address} answers; see `lab status`")
        # A node that has just gone from one to another may be known to both.
        nodes = {node.node: node for status in found for node in sorted(status.nodes, key=lambda it: it.acked_revision)}
        known = {replica.replica: replica for status in found for replica in status.replicas}
        return ControlPlaneStatus(max(each.revision for each in found), tuple(nodes.values()), tuple(known.values()))

    def publish(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        author: str,
        comment: str = "",
        expected_revision: int = 0,
        unsafe_skip_phases: bool = False,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes a route table and returns its revision once every node has converged.

        Args:
            sources: name and text of each file.
            author: who publishes.
            comment: why.
            expected_revision: refuse unless this one is in force; 0 for whichever is.
            unsafe_skip_phases: rules go out at once, before anything is loaded; for demonstration: requests fail.
            progress: called with each step, and every now and then while one takes its time.

        Raises:
            InputError: the route table is not valid.
            StaleRevisionError: another revision is in force than the one expected.
            PublishError: a phase failed; the revision before stays in force.
        """
        request = admin_pb2.PublishRequest(
            sources=[admin_pb2.SourceFile(name=name, text=text) for name, text in sources],
            author=author,
            comment=comment,
            expected_revision=expected_revision,
            unsafe_skip_phases=unsafe_skip_phases,
        )
        with self._errors():
            return _follow(self._stub.Publish(request, timeout=_PUBLISH_S), progress)

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
        """Publishes some use cases and models anew, with the rest of the route table as it is; see :meth:`publish`.

        Args:
            use_cases: name → name and text of a file with what stands below it in a route table.
            models: likewise.
            author: who publishes.
            comment: why.
            expected_revision: refuse unless this one is in force; 0 for whichever is.
            progress: as for :meth:`publish`.
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
        with self._errors():
            return _follow(self._stub.PublishChange(request, timeout=_PUBLISH_S), progress)

    def rollback(
        self,
        revision: int,
        *,
        author: str,
        comment: str = "",
        expected_revision: int = 0,
        progress: Callable[[PublishProgress], None] = lambda _: None,
    ) -> int:
        """Publishes an earlier revision's route table anew and returns the new revision.

        Raises:
            InputError: there is no such revision.
            StaleRevisionError: another revision is in force than the one expected.
            PublishError: a phase failed.
        """
        request = admin_pb2.RollbackRequest(
            revision=revision, author=author, comment=comment, expected_revision=expected_revision
        )
        with self._errors():
            return _follow(self._stub.Rollback(request, timeout=_PUBLISH_S), progress)

    def revision(self, revision: int = 0) -> RevisionInfo:
        """One revision with its route table; 0 for the one in force.

        Raises:
            InputError: there is no such revision.
        """
        with self._errors():
            return _info(self._stub.GetRevision(admin_pb2.GetRevisionRequest(revision=revision), timeout=_TABLES_S))

    def revisions(self) -> list[RevisionInfo]:
        """All revisions, oldest first, without their route tables."""
        with self._errors():
            listing = self._stub.ListRevisions(admin_pb2.ListRevisionsRequest(), timeout=_TABLES_S)
        return [_info(each) for each in listing.revisions]

    def acts(self, last: int = 0) -> list[Act]:
        """So many of the latest acts of the audit log, or all for 0; oldest first."""
        with self._errors():
            listing = self._stub.ListActs(admin_pb2.ListActsRequest(last=last), timeout=_SHORT_S)
        return [
            Act(
                each.number,
                _unix_ns(each.at),
                each.who,
                each.unit,
                each.what,
                each.detail,
                each.status,
                each.reason,
            )
            for each in listing.acts
        ]

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
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise LabNotRunningError(
                    f"the control plane at {self._address} does not answer ({details}); see `lab status`"
                ) from None
            raise LabError(f"control plane: {code.name}: {details}") from error


def _follow(events: Iterable[admin_pb2.PublishProgress], progress: Callable[[PublishProgress], None]) -> int:
    revision = 0
    for event in events:
        revision = event.revision
        waiting = event.waiting
        progress(
            PublishProgress(
                revision,
                _step(event),
                Waiting(waiting.done, waiting.total, tuple(waiting.waiting_for)) if event.HasField("waiting") else None,
                tuple(_acknowledgement(each) for each in event.acknowledgements),
                _unix_ns(event.called),
            )
        )
    return revision


def _info(revision: admin_pb2.Revision) -> RevisionInfo:
    return RevisionInfo(
        revision.revision,
        revision.author,
        revision.comment,
        _unix_ns(revision.created),
        revision.in_force,
        tuple(_step(each) for each in revision.progress),
        tuple(_acknowledgement(each) for each in revision.acknowledgements),
        json.loads(revision.document) if revision.document else None,
    )


def _step(event: admin_pb2.PublishProgress) -> Step:
    phase = admin_pb2.Phase.Name(event.phase).removeprefix("PHASE_").lower()
    return Step(phase, _unix_ns(event.at), event.detail)


def _acknowledgement(each: admin_pb2.Acknowledgement) -> Acknowledgement:
    return Acknowledgement(each.node, each.role, _unix_ns(each.sent), _unix_ns(each.at))


def _unix_ns(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000_000 + timestamp.nanos
