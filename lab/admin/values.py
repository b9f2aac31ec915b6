"""What the control plane says of itself, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from models.proto.control.v1 import admin_pb2

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.protobuf.timestamp_pb2 import Timestamp

    from models.proto.control.v1 import acts_pb2


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
        """From the message."""
        phase = admin_pb2.Phase.Name(event.phase).removeprefix("PHASE_").lower()
        return cls(phase, _unix_ns(event.at), event.detail)


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

    @classmethod
    def of(cls, each: admin_pb2.Acknowledgement) -> Self:
        """From the message."""
        return cls(each.node, each.role, _unix_ns(each.sent), _unix_ns(each.at))


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

    @classmethod
    def of(cls, event: admin_pb2.PublishProgress) -> Self:
        """From the message."""
        waiting = event.waiting
        return cls(
            event.revision,
            Step.of(event),
            Waiting(waiting.done, waiting.total, tuple(waiting.waiting_for)) if event.HasField("waiting") else None,
            tuple(map(Acknowledgement.of, event.acknowledgements)),
            _unix_ns(event.called),
        )


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

    @property
    def key(self) -> tuple[int, int]:
        """Of its route table: numbers begin anew with each lab, and no two of one number came to be at one time."""
        return self.revision, self.created_ns

    @property
    def fate(self) -> str:
        """What became of it: ``in force``, ``replaced``, ``failed``, or ``under way``."""
        if self.in_force:
            return "in force"
        phases = {step.phase for step in self.steps}
        return "failed" if "failed" in phases else "replaced" if "converged" in phases else "under way"

    @classmethod
    def of(cls, revision: admin_pb2.Revision) -> Self:
        """From the message."""
        return cls(
            revision.revision,
            revision.author,
            revision.comment,
            _unix_ns(revision.created),
            revision.in_force,
            tuple(map(Step.of, revision.progress)),
            tuple(map(Acknowledgement.of, revision.acknowledgements)),
            json.loads(revision.document) if revision.document else None,
        )


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

    @classmethod
    def of(cls, status: admin_pb2.Status) -> Self:
        """From the message."""
        return cls(
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

    @classmethod
    def together(cls, found: Collection[Self]) -> Self:
        """What several control planes know, of which each knows who is connected to it."""
        # A node that has just gone from one to another may be known to both.
        nodes = {node.node: node for status in found for node in sorted(status.nodes, key=lambda it: it.acked_revision)}
        known = {replica.replica: replica for status in found for replica in status.replicas}
        return cls(max(each.revision for each in found), tuple(nodes.values()), tuple(known.values()))


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

    @classmethod
    def of(cls, act: acts_pb2.Act) -> Self:
        """From the message."""
        return cls(act.number, _unix_ns(act.at), act.who, act.unit, act.what, act.detail, act.status, act.reason)


def _unix_ns(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000_000 + timestamp.nanos
