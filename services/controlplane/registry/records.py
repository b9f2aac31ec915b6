"""The records of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a revision, in order."""

    STORED = "stored"
    LOADED = "loaded"
    ENDPOINTS = "endpoints"
    CONVERGED = "converged"
    RETIRED = "retired"
    FAILED = "failed"


ENDS = (Phase.CONVERGED, Phase.FAILED)
"""Phases of which each published revision reaches one."""


@dataclass(frozen=True, slots=True)
class Event:
    """A revision reached a phase; ``at_ns`` in Unix nanoseconds."""

    phase: Phase
    at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as followers see it.

    Attributes:
        number: grows with each event of the store, in the order in which they became visible.
        revision: the event's revision.
    """

    number: int
    revision: int
    event: Event


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A node applied all of a revision.

    Attributes:
        role: ``sidecar``, ``resolver`` or ``gateway``.
        sent_ns: when the node's part of the revision was sent, Unix nanoseconds.
        at_ns: when the node acknowledged it; at least ``sent_ns``.
    """

    node: str
    role: str
    sent_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A stored revision; :meth:`.revisions.Registry.document` returns its route table.

    Attributes:
        created_ns: when the publish call arrived, Unix nanoseconds.
        callers: to whom it was published; empty for all.
    """

    revision: int
    created_ns: int
    author: str
    comment: str
    callers: tuple[str, ...]
    events: tuple[Event, ...]
    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A replica's last registration."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]
