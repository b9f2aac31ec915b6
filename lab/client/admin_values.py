"""The answers of the control plane's admin API, as frozen values."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from models.proto.control.v1 import acts_pb2, admin_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


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

    @classmethod
    def of(cls, event: admin_pb2.PublishProgress) -> Self:
        """Reads the message."""
        phase = admin_pb2.Phase.Name(event.phase).removeprefix("PHASE_").lower()
        return cls(phase, _unix_ns(event.at), event.detail)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A node's acknowledgement of a whole revision.

    Attributes:
        role: ``sidecar``, ``resolver`` or ``gateway``.
        sent_ns: when its clusters and endpoints, or its rules, were sent, Unix nanoseconds.
        at_ns: when it had put them in force, Unix nanoseconds.
    """

    node: str
    role: str
    sent_ns: int
    at_ns: int

    @classmethod
    def of(cls, each: admin_pb2.Acknowledgement) -> Self:
        """Reads the message."""
        return cls(each.node, each.role, _unix_ns(each.sent), _unix_ns(each.at))


@dataclass(frozen=True, slots=True)
class Waiting:
    """Progress within a phase: ``done`` of ``total`` nodes have answered, ``waiting_for`` have not."""

    done: int
    total: int
    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """Progress of a publish.

    Attributes:
        step: the phase that is reached, or waited for.
        waiting: progress within that phase; None once it is reached.
        acknowledgements: those of the nodes, present with ``converged`` and ``failed``.
        called_ns: when the call to publish arrived, Unix nanoseconds.
        left_behind: nodes that refused or did not answer, present with ``converged`` and ``failed``.
    """

    revision: int
    step: Step
    waiting: Waiting | None
    acknowledgements: tuple[Acknowledgement, ...]
    called_ns: int
    left_behind: tuple[Node, ...] = ()

    @classmethod
    def of(cls, event: admin_pb2.PublishProgress) -> Self:
        """Reads the message."""
        waiting = event.waiting
        return cls(
            event.revision,
            Step.of(event),
            Waiting(waiting.done, waiting.total, tuple(waiting.waiting_for)) if event.HasField("waiting") else None,
            tuple(map(Acknowledgement.of, event.acknowledgements)),
            _unix_ns(event.called),
            tuple(map(Node.of, event.left_behind)),
        )


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """A revision of the route table, and how its publish went.

    Attributes:
        created_ns: when the call to publish it arrived, Unix nanoseconds.
        document: in the shape of ``routes.yaml``; None in listings.
        callers: to whom it was published; empty for all.
    """

    revision: int
    author: str
    comment: str
    created_ns: int
    in_force: bool
    steps: tuple[Step, ...]
    acknowledgements: tuple[Acknowledgement, ...]
    document: dict[str, Any] | None
    callers: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """Identifies its route table across labs: each lab counts from 1, but never creates two at the same time."""
        return self.revision, self.created_ns

    @property
    def times(self) -> dict[str, int]:
        """When it reached each phase, Unix nanoseconds."""
        return {step.phase: step.at_ns for step in self.steps}

    @property
    def fate(self) -> str:
        """What became of it: ``in force``, ``staged``, ``replaced``, ``failed``, or ``under way``."""
        if self.in_force:
            return "staged" if self.callers else "in force"
        return "failed" if "failed" in self.times else "replaced" if "converged" in self.times else "under way"

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Reads what ``dataclasses.asdict`` gives; a document may lack what no time in force depends on."""
        return cls(
            int(document["revision"]),
            str(document.get("author", "")),
            str(document.get("comment", "")),
            int(document.get("created_ns", 0)),
            bool(document.get("in_force")),
            tuple(Step(each["phase"], int(each["at_ns"]), each.get("detail", "")) for each in document["steps"]),
            tuple(Acknowledgement(**each) for each in document.get("acknowledgements", ())),
            document["document"],
            tuple(map(str, document.get("callers", ()))),
        )

    @classmethod
    def of(cls, revision: admin_pb2.Revision) -> Self:
        """Reads the message."""
        return cls(
            revision.revision,
            revision.author,
            revision.comment,
            _unix_ns(revision.created),
            revision.in_force,
            tuple(map(Step.of, revision.progress)),
            tuple(map(Acknowledgement.of, revision.acknowledgements)),
            json.loads(revision.document) if revision.document else None,
            tuple(revision.callers),
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A connected sidecar, resolver or gateway.

    Attributes:
        acked_revision: the latest revision that it has acknowledged whole.
        error: why it rejected a later one, or is behind.
        clusters: number of clusters that an Envoy holds on demand.
        clusters_left: number of those removed again since it connected, because no request used them.
        behind: whether publishes no longer wait for it, until it has applied the state in force.
    """

    node: str
    role: str
    acked_revision: int
    error: str
    clusters: int = 0
    clusters_left: int = 0
    behind: bool = False

    @classmethod
    def of(cls, each: admin_pb2.Node) -> Self:
        """Reads the message."""
        return cls(
            each.node, each.role, each.acked_revision, each.error, each.clusters, each.clusters_left, each.behind
        )


@dataclass(frozen=True, slots=True)
class ListedNode:
    """A node that is planned, admitted or refused.

    Attributes:
        node: its name; all processes of a caller that route by themselves are planned as ``CALLER-proxyless-*``.
        caller: the caller for which it acts by itself; empty for all roles but ``proxyless``.
        state: ``planned``, ``admitted`` or ``refused``.
        streams: number of its streams; 0 if it is not connected.
        who: SPIFFE id that a refused node proves; empty in plaintext, and so are all that follow for other nodes.
        reason: why it was refused.
        times: how often it was refused since the control plane began.
        at_ns: when last, Unix nanoseconds.
    """

    node: str
    role: str
    caller: str
    state: str
    streams: int
    who: str = ""
    reason: str = ""
    times: int = 0
    at_ns: int = 0

    @classmethod
    def of(cls, each: admin_pb2.ListedNode) -> Self:
        """Reads the message."""
        state = admin_pb2.ListedNode.State.Name(each.state).removeprefix("STATE_").lower()
        return cls(
            each.node,
            each.role,
            each.caller,
            state,
            each.streams,
            each.who,
            each.reason,
            each.times,
            _unix_ns(each.at),
        )

    @classmethod
    def merged(cls, found: Iterable[Self]) -> list[Self]:
        """The listings of several control planes as one."""
        nodes: dict[tuple[str, str, str], Self] = {}
        for each in sorted(found, key=lambda it: it.at_ns):
            key = each.state, each.node, each.caller
            if before := nodes.get(key):
                streams, times = each.streams + before.streams, each.times + before.times
                each = replace(each, streams=streams, times=times, role=each.role or before.role)  # noqa: PLW2901 (merged)
            nodes[key] = each
        return list(nodes.values())


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
    """The revision in force (0: none), the connected nodes, and the registered replicas.

    Attributes:
        away: nodes of the lab's own that are behind and not connected.
        staged: the revision that is staged; 0 if none is.
        staged_for: the callers for which it is in force.
    """

    revision: int
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]
    away: tuple[Node, ...] = ()
    staged: int = 0
    staged_for: tuple[str, ...] = ()

    @classmethod
    def of(cls, status: admin_pb2.Status) -> Self:
        """Reads the message."""
        return cls(
            status.revision,
            tuple(map(Node.of, status.nodes)),
            tuple(
                Replica(each.cluster, each.replica, each.address, tuple(each.loaded), each.draining)
                for each in status.replicas
            ),
            tuple(map(Node.of, status.away)),
            status.staged_revision,
            tuple(status.staged_callers),
        )

    @classmethod
    def merged(cls, found: Collection[Self]) -> Self:
        """One status from those of several control planes, each of which lists only its own nodes."""
        # A node that has just moved from one control plane to another may be listed by both.
        nodes = {node.node: node for status in found for node in sorted(status.nodes, key=lambda it: it.acked_revision)}
        known = {replica.replica: replica for status in found for replica in status.replicas}
        # It may be back at another control plane.
        away = {node.node: node for status in found for node in status.away if node.node not in nodes}
        latest = max(found, key=lambda each: (each.revision, each.staged))
        merged = tuple(nodes.values()), tuple(known.values()), tuple(away.values())
        return cls(latest.revision, *merged, latest.staged, latest.staged_for)


@dataclass(frozen=True, slots=True)
class Registration:
    """The time in which a replica was registered, Unix nanoseconds; ``until_ns`` is None while it is."""

    cluster: str
    replica: str
    from_ns: int
    until_ns: int | None


@dataclass(frozen=True, slots=True)
class Registrations:
    """All registrations of replicas since a time, Unix nanoseconds."""

    since_ns: int
    replicas: tuple[Registration, ...]

    @classmethod
    def of(cls, status: admin_pb2.Status) -> Self:
        """Reads the message."""
        return cls(
            _unix_ns(status.registrations_since),
            tuple(
                Registration(
                    each.cluster,
                    each.replica,
                    _unix_ns(each.began),
                    _unix_ns(each.ended) if each.HasField("ended") else None,
                )
                for each in status.registrations
            ),
        )


@dataclass(frozen=True, slots=True)
class Act:
    """An entry of the audit log: an operation that was performed or attempted.

    Attributes:
        number: sequence number in the log that keeps it.
        at_ns: Unix nanoseconds.
        who: SPIFFE id proven by the connection, or ``unproved`` and the peer's address. In the lab's own log: the
            operating system's user, and the operator's SPIFFE id if there is one.
        unit: unit that was called or acted on.
        what: full name of the RPC; in the lab's own log the command, e.g. ``fault inject kill``.
        detail: its arguments.
        status: status that it ended with; empty if it is under way or was cut off.
        reason: why it failed or was refused.
        kept_by: log that keeps it: ``control-plane`` for RPCs, ``lab`` for operations on units from outside.
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

    @classmethod
    def of(cls, act: acts_pb2.Act) -> Self:
        """Reads the message."""
        return cls(act.number, _unix_ns(act.at), act.who, act.unit, act.what, act.detail, act.status, act.reason)


def _unix_ns(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000_000 + timestamp.nanos
