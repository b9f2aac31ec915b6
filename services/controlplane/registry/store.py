"""What a registry of revisions stores, and the interface of where: :mod:`.sqlite` or :mod:`.postgres`.

A store keeps rows and says who else looks at them; what they mean is the registry's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from lab.errors import RegistryError
    from lab.transport.audit import Act


class Phase(StrEnum):
    """What became of a revision, in order."""

    STORED = "stored"
    LOADED = "loaded"
    ENDPOINTS = "endpoints"
    CONVERGED = "converged"
    RETIRED = "retired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a revision; ``at_ns`` in Unix nanoseconds."""

    phase: Phase
    at_ns: int
    detail: str


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is followed.

    Attributes:
        number: grows with each event of the store; the order in which they became visible.
        revision: whose.
    """

    number: int
    revision: int
    event: Event


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A node that holds a revision wholly.

    Attributes:
        role: ``sidecar``, ``resolver`` or ``gateway``.
        sent_ns: when its part of the revision was sent, Unix nanoseconds.
        at_ns: when it said that this is in force; no earlier than ``sent_ns``.
    """

    node: str
    role: str
    sent_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A revision as the registry holds it; for its route table see :meth:`.registry.Registry.document`.

    Attributes:
        created_ns: when the call to publish it arrived, Unix nanoseconds.
    """

    revision: int
    created_ns: int
    author: str
    comment: str
    events: tuple[Event, ...]
    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision to be stored.

    Attributes:
        base: the revision that the text changes; None if it is a whole document.
        text: JSON.
    """

    created_ns: int
    author: str
    comment: str
    base: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A replica as it was last registered."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]


class Store(Protocol):
    """Where revisions are kept; append-only but for the replicas, and durable when a method returns.

    Every method raises :class:`lab.errors.RegistryError` when it cannot do its work; says what to do.
    """

    def close(self) -> None:
        """Lets go of it."""

    def damaged(self, what: str) -> RegistryError:
        """What is read makes no sense: the error to raise."""

    def append(self, new: NewRevision, stored: Event, after: int | None = None) -> int:
        """Stores a revision with its first event, and returns its number: one more than the latest.

        Args:
            new: what to store.
            stored: its first event.
            after: compare and set: the latest revision must still be this one; None for whichever it is.

        Raises:
            StaleRevisionError: it is not; nothing was stored.
        """

    def record(self, revision: int, event: Event, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Stores what became of a revision, and who has acknowledged it.

        Raises:
            StaleRevisionError: it has converged, failed or been retired, and cannot once more; nothing was stored.
        """

    def report(
        self, revision: int, phase: Phase, follower: str, error: str, acknowledgements: Sequence[Acknowledgement]
    ) -> None:
        """Stores that a follower has reached a phase of a revision, or why it has not, and who has acknowledged it."""

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """Follower → its latest error, of those that have reported the phase."""

    def latest(self) -> int:
        """The latest revision, 0 before the first."""

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""

    def unfinished(self) -> list[int]:
        """Revisions that neither converged nor failed, oldest first."""

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """All revisions, oldest first, without those that another one had replaced by then, Unix nanoseconds."""

    def text(self, revision: int) -> tuple[int | None, str] | None:
        """Base and text of a revision as in :class:`NewRevision`, or None."""

    def events(self, after: int) -> list[StoredEvent]:
        """All events with a greater number, in order."""

    def latest_event(self) -> StoredEvent | None:
        """The one with the greatest number, or None."""

    def begin_act(self, act: Act) -> int:
        """Stores what somebody is about to do, and returns its number."""

    def end_act(self, number: int, at_ns: int, status: str, reason: str) -> None:
        """Stores what has become of an act."""

    def acts(self, last: int) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of so many of the latest, or of all for 0; oldest first."""

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Remembers who is registered now of these clusters, instead of who was."""

    def replicas(self) -> list[StoredReplica]:
        """Who was registered last."""

    def changes(self, follower: str) -> AsyncGenerator[None]:
        """Yields at once, and whenever something may have been stored since, by whomever; for ever.

        Once too often is no harm, once too seldom is: what is new, its reader finds out by :meth:`events`. A store that
        cannot be reached is tried again and again.

        Args:
            follower: name under which :meth:`followers` lists whoever does this, until its process ends.
        """

    def followers(self) -> set[str]:
        """Names of those that follow the changes, each in a process that lives."""
