"""The registry of revisions: append-only, over a :mod:`.store`.

A revision is a route table. It is stored whole, or as a diff against an earlier revision until the diffs since the
latest whole one are larger than that. Events record its phases. Nothing is changed or deleted; triggers in the database
enforce that. A committed revision survives ``kill -9`` and a power cut.
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
"""Prefixes of the address of a PostgreSQL store; any other address is an SQLite file."""


def open_store(where: Path | str) -> Store:
    """The store in an SQLite file, or in a PostgreSQL database at ``postgresql://…``.

    Raises:
        RegistryError: the store cannot be opened; names the remedy.
    """
    if str(where).startswith(POSTGRESQL):
        # Its library is an optional extra.
        from services.controlplane.registry.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(str(where))
    return SqliteStore(Path(where))


class Registry:
    """The revisions and their events.

    Args:
        where: see :func:`open_store`.
        clock: times events; never earlier than an event that is already stored.

    Raises:
        RegistryError: the store cannot be opened or is not a registry's; names the remedy. So do all methods.
    """

    def __init__(self, where: Path | str, clock: Clock | None = None) -> None:
        self._store = open_store(where)
        self.clock = clock or Clock()
        latest = self._store.latest_event()
        if latest is not None:
            self.clock.advance_to(latest.event.at_ns)
        # Revision → bytes of the whole document at the end of its diff chain, and of all diffs in the chain. Revisions
        # stored by another process are unknown here: their successors are stored whole.
        self._weights: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Closes the store."""
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
        """Stores a route table durably; returns its revision and the event of that.

        Args:
            document: in the shape of ``routes.yaml``.
            author: who publishes.
            comment: why.
            created_ns: when the call arrived, Unix nanoseconds; now if 0.
            replaces: a stored revision and its document, to store only the diff.
            after: compare-and-set: the latest stored revision must be this one; None skips the check.
            detail: of the event.

        Raises:
            StaleRevisionError: another revision is the latest; nothing was stored.
        """
        base, text, weight = self._encoded(document, replaces)
        event = Event(Phase.STORED, self.clock.now_ns(), detail)
        new = NewRevision(created_ns or event.at_ns, author, comment, base, text)
        revision = self._store.append(new, event, after)
        self._weights[revision] = weight
        return revision, event

    def _encoded(
        self, document: dict[str, Any], replaces: tuple[int, dict[str, Any]] | None
    ) -> tuple[int | None, str, tuple[int, int]]:
        """Base, text and weight of the revision to store."""
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
        """Stores an event of a revision durably, with the present time, and who acknowledged it.

        Raises:
            StaleRevisionError: the revision already converged, failed or was retired.
        """
        event = Event(phase, self.clock.now_ns(), detail)
        self._store.record(revision, event, acknowledgements)
        return event

    async def follow(self, follower: str, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Yields every event after a number, in order, as soon as any process has stored it; never ends.

        It resumes after the last event it yielded, whether the store's notifications are late, lost or duplicated.

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
                    self.clock.advance_to(each.event.at_ns)
                    yield each

    def resume_at(self) -> tuple[int, int]:
        """Where a new follower starts, so that it sees every event of a revision that is still under way.

        Returns:
            An event's number for :meth:`follow`, and the latest revision that had ended by then.
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
            revision: the revision.
            phase: the phase that the follower reached, or failed to reach.
            follower: its name.
            error: why it failed; empty if it did not.
            acknowledgements: of its nodes.
        """
        self._store.report(revision, phase, follower, error, acknowledgements)

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """Follower → its error, empty if none, for followers that have reported the phase."""
        return self._store.reports(revision, phase)

    def followers(self) -> set[str]:
        """Names of the followers whose process is alive."""
        return self._store.followers()

    def latest(self) -> int:
        """The latest revision, also if it failed; 0 before the first."""
        return self._store.latest()

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""
        return self._store.in_force()

    def unfinished(self) -> list[int]:
        """Revisions whose publish is under way or was interrupted: they neither converged nor failed."""
        return self._store.unfinished()

    def has_failed(self, revision: int) -> bool:
        """Whether the publish of an existing revision failed."""
        found = self._store.get(revision)
        return found is not None and any(each.phase is Phase.FAILED for each in found.events)

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""
        return self._store.get(revision)

    def document(self, revision: int) -> dict[str, Any]:
        """The route table of an existing revision."""
        changes = []
        base: int | None = revision
        try:
            while base is not None:
                found = self._store.text(base)
                if found is None:
                    raise LookupError(f"there is no revision {base}")  # noqa: TRY301 (one except clause handles all)
                base, text = found
                changes.append(json.loads(text))
            document: dict[str, Any] = changes.pop()
            for change in reversed(changes):
                document = apply_diff(document, change)
        except (ValueError, LookupError, TypeError) as error:
            raise self._store.damaged(f"revision {revision} cannot be read: {error}") from error
        return document

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """All revisions, oldest first, except those replaced before ``since_ns``, Unix nanoseconds."""
        return self._store.all(since_ns)

    def begin_act(self, act: Act) -> int:
        """Stores an administrative act durably before it is carried out, and returns its number."""
        return self._store.begin_act(act)

    def end_act(self, number: int, status: str, reason: str) -> None:
        """Stores the outcome of an act durably."""
        self._store.end_act(number, self.clock.now_ns(), status, reason)

    def acts(self, last: int = 0) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of the ``last`` acts, or of all if 0; oldest first.

        Status and reason are empty while an act is under way, or if the control plane died during it.
        """
        return self._store.acts(last)

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Replaces the saved replicas of these clusters."""
        self._store.save_replicas(replicas, clusters)

    def replicas(self) -> list[StoredReplica]:
        """All saved replicas."""
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
