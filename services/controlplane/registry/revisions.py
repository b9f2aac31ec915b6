"""The registry of revisions: append-only, in a store of its own (:mod:`.store`).

A revision is a route table: stored whole, or as what it changes in an earlier one, until the changes since the latest
whole one outweigh that. What became of it is told by its events; nothing is ever changed or deleted, and the database
itself refuses to (triggers). A committed revision survives a ``kill -9`` and a power cut.
"""

from __future__ import annotations

import json
import logging
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RegistryError
from services.controlplane.registry.clock import Clock
from services.controlplane.registry.sqlite import SqliteStore
from services.controlplane.registry.store import Event, NewRevision, Phase, StoredReplica
from services.controlplane.registry.table_diff import apply_diff, diff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from lab.transport.audit import Act
    from services.controlplane.registry.store import Acknowledgement, Store, StoredEvent, StoredRevision

log = logging.getLogger(__name__)

POSTGRESQL = ("postgresql://", "postgres://")
"""How the address of a store in PostgreSQL begins; whatever begins otherwise is an SQLite file."""


def open_store(where: Path | str) -> Store:
    """The store of an SQLite file, or of a PostgreSQL database at ``postgresql://…``.

    Raises:
        RegistryError: it cannot be opened; says what to do.
    """
    if str(where).startswith(POSTGRESQL):
        # Its library is an extra.
        from services.controlplane.registry.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(str(where))
    return SqliteStore(Path(where))


class Registry:
    """The revisions and their events.

    Args:
        where: see :func:`open_store`.
        clock: says when; what is in the store already has been.

    Raises:
        RegistryError: the store cannot be opened or is not a registry's; says what to do. So do all methods.
    """

    def __init__(self, where: Path | str, clock: Clock | None = None) -> None:
        self._store = open_store(where)
        self.clock = clock or Clock()
        latest = self._store.latest_event()
        if latest is not None:
            self.clock.has_been(latest.event.at_ns)
        # Revision → bytes of the whole document that it rests on, and of all changes since. Of those that another
        # process stored nothing is known: what rests on them is stored whole.
        self._weights: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def append(
        self,
        document: dict[str, Any],
        *,
        author: str,
        comment: str,
        created_ns: int = 0,
        replaces: tuple[int, dict[str, Any]] | None = None,
        after: int | None = None,
        detail: str = "",
    ) -> tuple[int, Event]:
        """Stores a route table durably and returns its revision, and the event that says so.

        Args:
            document: in the shape of ``routes.yaml``.
            author: who publishes.
            comment: why.
            created_ns: when the call arrived, Unix nanoseconds; now if 0.
            replaces: a stored revision and its document, so that the difference may be stored alone.
            after: refuse unless this is the latest stored revision; None for whichever is.
            detail: of the event.

        Raises:
            StaleRevisionError: it is not; nothing was stored.
        """
        base, text, weight = self._form_of(document, replaces)
        event = Event(Phase.STORED, self.clock.now_ns(), detail)
        new = NewRevision(created_ns or event.at_ns, author, comment, base, text)
        revision = self._store.append(new, event, after)
        self._weights[revision] = weight
        return revision, event

    def _form_of(
        self, document: dict[str, Any], replaces: tuple[int, dict[str, Any]] | None
    ) -> tuple[int | None, str, tuple[int, int]]:
        """Base, text and weight of what is to be stored."""
        if replaces is not None and replaces[0] in self._weights:
            base, before = replaces
            whole, changes = self._weights[base]
            text = _json(diff(before, document))
            if changes + len(text) <= whole:
                return base, text, (whole, changes + len(text))
        text = _json(document)
        return None, text, (len(text), 0)

    def record(
        self, revision: int, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()
    ) -> Event:
        """Stores durably what became of a revision, with the present time, and who has acknowledged it.

        Raises:
            StaleRevisionError: it has converged, failed or been retired, and cannot once more.
        """
        event = Event(phase, self.clock.now_ns(), detail)
        self._store.record(revision, event, acknowledgements)
        return event

    async def follow(self, follower: str, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Every event after one of that number, in order, as soon as it is stored, by whomever; for ever.

        Whatever the store says of changes, or fails to, it goes on from the last event that was seen here.

        Args:
            follower: name for :meth:`followers`.
            after: an event's number; 0 for all.
        """
        async with aclosing(self._store.changes(follower)) as changes:
            async for _ in changes:
                try:
                    found = self._store.events(after)
                except RegistryError as error:
                    log.warning("%s", error)
                    continue
                for each in found:
                    after = each.number
                    self.clock.has_been(each.event.at_ns)
                    yield each

    def resume_at(self) -> tuple[int, int]:
        """Where whoever begins to follow is to go on, so that it learns of all that has not come to its end.

        Returns:
            An event's number for :meth:`follow`, and the latest revision that is settled by then.
        """
        latest, settled, unfinished = self._store.latest_event(), self._store.latest(), self._store.unfinished()
        if latest is None:
            return 0, 0
        if not unfinished:
            return latest.number, settled
        begun = (each.number for each in self._store.events(0) if each.revision == unfinished[0])
        return next(begun) - 1, unfinished[0] - 1

    def report(
        self,
        revision: int,
        phase: Phase,
        follower: str,
        *,
        error: str = "",
        acknowledgements: Sequence[Acknowledgement] = (),
    ) -> None:
        """Stores durably how far a follower has got with a revision that another control plane publishes.

        Args:
            revision: that one.
            phase: that it has reached.
            follower: its name.
            error: why it has not, instead.
            acknowledgements: of its nodes.
        """
        self._store.report(revision, phase, follower, error, acknowledgements)

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """Who has reported the phase → why it has not reached it; empty if it has."""
        return self._store.reports(revision, phase)

    def followers(self) -> set[str]:
        """Names of those that follow, each in a process that lives."""
        return self._store.followers()

    def latest(self) -> int:
        """The latest revision, whatever became of it; 0 before the first."""
        return self._store.latest()

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""
        return self._store.in_force()

    def unfinished(self) -> list[int]:
        """Revisions whose publish was cut off, or is under way: they neither converged nor failed."""
        return self._store.unfinished()

    def has_failed(self, revision: int) -> bool:
        """Whether the publish of a revision that there is has come to nothing."""
        found = self._store.get(revision)
        return found is not None and any(each.phase is Phase.FAILED for each in found.events)

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""
        return self._store.get(revision)

    def document(self, revision: int) -> dict[str, Any]:
        """The route table of a revision that there is."""
        changes = []
        base: int | None = revision
        try:
            while base is not None:
                found = self._store.text(base)
                if found is None:
                    raise LookupError(f"there is no revision {base}")  # noqa: TRY301 (one way to say it)
                base, text = found
                changes.append(json.loads(text))
            document: dict[str, Any] = changes.pop()
            for change in reversed(changes):
                document = apply_diff(document, change)
        except (ValueError, LookupError, TypeError) as error:
            raise self._store.damaged(f"revision {revision} cannot be read: {error}") from error
        return document

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """All revisions, oldest first, without those that another one had replaced by then, Unix nanoseconds."""
        return self._store.all(since_ns)

    def begin_act(self, act: Act) -> int:
        """Stores durably what somebody is about to do, and returns its number."""
        return self._store.begin_act(act)

    def end_act(self, number: int, status: str, reason: str) -> None:
        """Stores durably what has become of an act."""
        self._store.end_act(number, self.clock.now_ns(), status, reason)

    def acts(self, last: int = 0) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of so many of the latest, or of all for 0; oldest first.

        Status and reason are empty of an act that has not ended, or was cut off with the control plane.
        """
        return self._store.acts(last)

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Remembers who is registered now of these clusters, instead of who was."""
        self._store.save_replicas(replicas, clusters)

    def replicas(self) -> list[StoredReplica]:
        """Who was registered last."""
        return self._store.replicas()


@contextmanager
def best_effort(subject: str = "") -> Iterator[None]:
    """Logs a :class:`RegistryError` and goes on: for writes that must not stop what they record.

    Args:
        subject: begins the message.
    """
    try:
        yield
    except RegistryError as error:
        log.error("%s%s", subject, error)  # noqa: TRY400 (the message says it all)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
