"""The SQL of the registry, common to SQLite and PostgreSQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from lab.errors import StaleRevisionError
from lab.transport.audit import Act
from services.controlplane.registry.store import (
    Acknowledgement,
    Event,
    Phase,
    StoredEvent,
    StoredReplica,
    StoredRevision,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from lab.errors import RegistryError
    from services.controlplane.registry.store import NewRevision

# {key}: auto-incremented primary key; {number}: 64-bit integer; {strict}: enforces column types.
SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    revision {key},
    created_ns {number} NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL,
    -- The revision that the document is a diff against; NULL if it is whole.
    base {number} REFERENCES revisions(revision),
    document TEXT NOT NULL
) {strict};
CREATE TABLE IF NOT EXISTS events (
    id {key},
    revision {number} NOT NULL REFERENCES revisions(revision),
    phase TEXT NOT NULL,
    at_ns {number} NOT NULL,
    detail TEXT NOT NULL
) {strict};
CREATE INDEX IF NOT EXISTS events_by_revision ON events(revision);
CREATE TABLE IF NOT EXISTS acknowledgements (
    {rowid}
    revision {number} NOT NULL REFERENCES revisions(revision),
    node TEXT NOT NULL,
    role TEXT NOT NULL,
    sent_ns {number} NOT NULL,
    at_ns {number} NOT NULL
) {strict};
CREATE INDEX IF NOT EXISTS acknowledgements_by_revision ON acknowledgements(revision);
-- How far the followers have got with a revision that another control plane publishes.
CREATE TABLE IF NOT EXISTS reports (
    id {key},
    revision {number} NOT NULL REFERENCES revisions(revision),
    phase TEXT NOT NULL,
    follower TEXT NOT NULL,
    error TEXT NOT NULL
) {strict};
CREATE INDEX IF NOT EXISTS reports_by_revision ON reports(revision);
CREATE TABLE IF NOT EXISTS acts (
    act {key},
    at_ns {number} NOT NULL,
    who TEXT NOT NULL,
    unit TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
) {strict};
CREATE TABLE IF NOT EXISTS outcomes (
    act {number} PRIMARY KEY REFERENCES acts(act),
    at_ns {number} NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL
) {strict};
-- The last registered replicas: a restarted control plane uses them until they register again.
CREATE TABLE IF NOT EXISTS replicas (
    cluster TEXT NOT NULL,
    replica TEXT NOT NULL,
    address TEXT NOT NULL,
    loaded TEXT NOT NULL,
    PRIMARY KEY (cluster, replica)
) {strict};
"""

APPEND_ONLY = ("revisions", "events", "acknowledgements", "reports", "acts", "outcomes")
"""Tables in which triggers refuse UPDATE and DELETE."""

_SELECT = "SELECT revision, created_ns, author, comment FROM revisions"
_IN_FORCE_AT = "(SELECT COALESCE(MAX(revision), 0) FROM events WHERE phase = ? AND at_ns <= ?)"
_EVENTS = "SELECT id, revision, phase, at_ns, detail FROM events"
_ENDS = (Phase.CONVERGED.value, Phase.FAILED.value)
_ALL = 2**62


class SqlSession(ABC):
    """A connection to an SQL database; ``?`` marks parameters."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    @abstractmethod
    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(statement, parameters)), None)

    def insert(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Inserts a row and returns the number of its RETURNING clause."""
        [[number]] = self.rows(statement, parameters)
        return int(number)

    @abstractmethod
    def insert_all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Inserts rows."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Commits durably at its end, or rolls back on an error; writers are serialised."""

    @abstractmethod
    def damaged(self, what: str) -> RegistryError:
        """The error to raise when stored rows are inconsistent."""


class SqlStore:
    """Implements :class:`.store.Store` except ``changes`` and ``followers``."""

    def __init__(self, db: SqlSession) -> None:
        self._db = db
        self.damaged = db.damaged

    def close(self) -> None:
        """Closes the store."""
        self._db.close()

    def append(self, new: NewRevision, stored: Event, after: int | None = None) -> int:
        """See :meth:`.store.Store.append`."""
        with self._db.transaction():
            latest = self.latest()
            if after not in (None, latest):
                raise StaleRevisionError(f"revision {latest} has been stored since: check it, then publish again")
            revision = self._db.insert(
                "INSERT INTO revisions (revision, created_ns, author, comment, base, document)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING revision",
                (latest + 1, *astuple(new)),
            )
            self._insert_event(revision, stored)
        return revision

    def record(self, revision: int, event: Event, acknowledgements: Sequence[Acknowledgement]) -> None:
        """See :meth:`.store.Store.record`."""
        with self._db.transaction():
            self._check_not_ended(revision, event.phase)
            self._insert_event(revision, event)
            self._insert_acknowledgements(revision, acknowledgements)

    def report(
        self, revision: int, phase: Phase, follower: str, error: str, acknowledgements: Sequence[Acknowledgement]
    ) -> None:
        """See :meth:`.store.Store.report`."""
        with self._db.transaction():
            self._db.insert(
                "INSERT INTO reports (revision, phase, follower, error) VALUES (?, ?, ?, ?) RETURNING id",
                (revision, phase.value, follower, error),
            )
            self._insert_acknowledgements(revision, acknowledgements)

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """See :meth:`.store.Store.reports`."""
        rows = self._db.rows(
            "SELECT follower, error FROM reports WHERE revision = ? AND phase = ? ORDER BY id", (revision, phase.value)
        )
        return dict(rows)

    def _check_not_ended(self, revision: int, phase: Phase) -> None:
        """Of two control planes that both end a revision, only the first succeeds."""
        if phase not in (*_ENDS, Phase.RETIRED):
            return
        alike = _ENDS if phase in _ENDS else (Phase.RETIRED.value,) * 2
        row = self._db.row("SELECT phase FROM events WHERE revision = ? AND phase IN (?, ?)", (revision, *alike))
        if row is not None:
            raise StaleRevisionError(f"revision {revision} has {row[0]} already")

    def latest(self) -> int:
        """See :meth:`.store.Store.latest`."""
        [[latest]] = self._db.rows("SELECT coalesce(max(revision), 0) FROM revisions")
        return int(latest)

    def in_force(self) -> int:
        """See :meth:`.store.Store.in_force`."""
        row = self._db.row("SELECT revision FROM events WHERE phase = ? ORDER BY id DESC LIMIT 1", _ENDS[:1])
        return int(row[0]) if row else 0

    def unfinished(self) -> list[int]:
        """See :meth:`.store.Store.unfinished`."""
        rows = self._db.rows(
            "SELECT revision FROM revisions EXCEPT SELECT revision FROM events WHERE phase IN (?, ?) ORDER BY revision",
            _ENDS,
        )
        return [int(row[0]) for row in rows]

    def get(self, revision: int) -> StoredRevision | None:
        """See :meth:`.store.Store.get`."""
        row = self._db.row(f"{_SELECT} WHERE revision = ?", (revision,))
        return self._stored(row) if row else None

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """See :meth:`.store.Store.all`."""
        rows = self._db.rows(f"{_SELECT} WHERE revision >= {_IN_FORCE_AT} ORDER BY revision", (_ENDS[0], since_ns))
        return [self._stored(row) for row in rows]

    def text(self, revision: int) -> tuple[int | None, str] | None:
        """See :meth:`.store.Store.text`."""
        row = self._db.row("SELECT base, document FROM revisions WHERE revision = ?", (revision,))
        return (row[0], row[1]) if row else None

    def events(self, after: int) -> list[StoredEvent]:
        """See :meth:`.store.Store.events`."""
        return self._stored_events("WHERE id > ? ORDER BY id", (after,))

    def latest_event(self) -> StoredEvent | None:
        """See :meth:`.store.Store.latest_event`."""
        return next(iter(self._stored_events("ORDER BY id DESC LIMIT 1")), None)

    def _stored_events(self, which: str, parameters: Sequence[Any] = ()) -> list[StoredEvent]:
        rows = self._db.rows(f"{_EVENTS} {which}", parameters)
        return [
            StoredEvent(number, revision, Event(Phase(phase), at_ns, detail))
            for number, revision, phase, at_ns, detail in rows
        ]

    def begin_act(self, act: Act) -> int:
        """See :meth:`.store.Store.begin_act`."""
        return self._db.insert(
            "INSERT INTO acts (at_ns, who, unit, what, detail) VALUES (?, ?, ?, ?, ?) RETURNING act", astuple(act)
        )

    def end_act(self, number: int, at_ns: int, status: str, reason: str) -> None:
        """See :meth:`.store.Store.end_act`."""
        self._db.insert("INSERT INTO outcomes VALUES (?, ?, ?, ?) RETURNING act", (number, at_ns, status, reason))

    def acts(self, last: int) -> list[tuple[int, Act, str, str]]:
        """See :meth:`.store.Store.acts`."""
        rows = self._db.rows(
            "SELECT act, acts.at_ns, who, unit, what, detail, coalesce(status, ''), coalesce(reason, '')"
            " FROM acts LEFT JOIN outcomes USING (act) ORDER BY act DESC LIMIT ?",
            (last or _ALL,),
        )
        return [(number, Act(*act), status, reason) for number, *act, status, reason in reversed(rows)]

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """See :meth:`.store.Store.save_replicas`."""
        with self._db.transaction():
            for cluster in clusters:
                self._db.rows("DELETE FROM replicas WHERE cluster = ?", (cluster,))
            self._db.insert_all(
                "INSERT INTO replicas VALUES (?, ?, ?, ?)",
                [(each.cluster, each.replica, each.address, " ".join(each.loaded)) for each in replicas],
            )

    def replicas(self) -> list[StoredReplica]:
        """See :meth:`.store.Store.replicas`."""
        rows = self._db.rows("SELECT cluster, replica, address, loaded FROM replicas")
        return [
            StoredReplica(cluster, replica, address, tuple(loaded.split()))
            for cluster, replica, address, loaded in rows
        ]

    def _insert_event(self, revision: int, event: Event) -> None:
        self._db.insert(
            "INSERT INTO events (revision, phase, at_ns, detail) VALUES (?, ?, ?, ?) RETURNING id",
            (revision, event.phase.value, event.at_ns, event.detail),
        )

    def _insert_acknowledgements(self, revision: int, acknowledgements: Sequence[Acknowledgement]) -> None:
        self._db.insert_all(
            "INSERT INTO acknowledgements (revision, node, role, sent_ns, at_ns) VALUES (?, ?, ?, ?, ?)",
            [(revision, each.node, each.role, each.sent_ns, each.at_ns) for each in acknowledgements],
        )

    def _stored(self, row: tuple[Any, ...]) -> StoredRevision:
        revision, created_ns, author, comment = row
        events = self._db.rows("SELECT phase, at_ns, detail FROM events WHERE revision = ? ORDER BY id", (revision,))
        acknowledgements = self._db.rows(
            "SELECT node, role, sent_ns, at_ns FROM acknowledgements WHERE revision = ? ORDER BY rowid", (revision,)
        )
        return StoredRevision(
            revision,
            created_ns,
            author,
            comment,
            tuple(Event(Phase(phase), at_ns, detail) for phase, at_ns, detail in events),
            tuple(Acknowledgement(*each) for each in acknowledgements),
        )
