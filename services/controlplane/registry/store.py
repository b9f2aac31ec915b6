"""The records of the registry, and the interface of its store: :mod:`.sqlite` or :mod:`.postgres`.

A store keeps rows and lists its followers; :mod:`.revisions` interprets the rows.
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
    """The phases of a revision, in order."""

    STORED = "stored"
    LOADED = "loaded"
    ENDPOINTS = "endpoints"
    CONVERGED = "converged"
    RETIRED = "retired"
    FAILED = "failed"


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
    """

    revision: int
    created_ns: int
    author: str
    comment: str
    events: tuple[Event, ...]
    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision before it is stored.

    Attributes:
        base: the revision that ``text`` is a diff against; None if ``text`` is a whole document.
        text: JSON.
    """

    created_ns: int
    author: str
    comment: str
    base: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A replica's last registration."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]


class Store(Protocol):
    """Stores revisions. Append-only except for the replicas; every write is durable when its method returns.

    Every method raises :class:`lab.errors.RegistryError` with a remedy if the store fails.
    """

    def close(self) -> None:
        """Closes the store."""

    def damaged(self, what: str) -> RegistryError:
        """The error to raise when stored rows are inconsistent."""

    def append(self, new: NewRevision, stored: Event, after: int | None = None) -> int:
        """Stores a revision with its first event and returns its number, the latest plus 1.

        Args:
            new: the revision.
            stored: its first event.
            after: compare-and-set: the latest revision must be this one; None skips the check.

        Raises:
            StaleRevisionError: another revision is the latest; nothing was stored.
        """

    def record(self, revision: int, event: Event, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Stores an event of a revision, and who acknowledged it.

        Raises:
            StaleRevisionError: the revision already converged, failed or was retired; nothing was stored.
        """

    def report(
        self, revision: int, phase: Phase, follower: str, error: str, acknowledgements: Sequence[Acknowledgement]
    ) -> None:
        """Stores that a follower reached a phase of a revision, or why it failed to, and who acknowledged it."""

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """Follower → its latest error, empty if none, for followers that have reported the phase."""

    def latest(self) -> int:
        """The latest revision, 0 before the first."""

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""

    def unfinished(self) -> list[int]:
        """Revisions that neither converged nor failed, oldest first."""

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """All revisions, oldest first, except those replaced before ``since_ns``, Unix nanoseconds."""

    def text(self, revision: int) -> tuple[int | None, str] | None:
        """Base and text of a revision as in :class:`NewRevision`, or None."""

    def events(self, after: int) -> list[StoredEvent]:
        """All events with a greater number, in order."""

    def latest_event(self) -> StoredEvent | None:
        """The event with the greatest number, or None."""

    def begin_act(self, act: Act) -> int:
        """Stores an administrative act before it is carried out, and returns its number."""

    def end_act(self, number: int, at_ns: int, status: str, reason: str) -> None:
        """Stores the outcome of an act."""

    def acts(self, last: int) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of the ``last`` acts, or of all if 0; oldest first."""

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Replaces the saved replicas of these clusters."""

    def replicas(self) -> list[StoredReplica]:
        """All saved replicas."""

    def changes(self, follower: str) -> AsyncGenerator[None]:
        """Yields immediately, and whenever any process may have stored something; never ends.

        It may yield too often, but never too rarely: the reader asks :meth:`events` what is new. It retries for as long
        as the store is unreachable.

        Args:
            follower: name that :meth:`followers` lists until this process ends.
        """

    def followers(self) -> set[str]:
        """Names of the followers whose process is alive."""
