"""The registry of revisions: append-only, in SQLite.

A revision is a whole route table. What became of it is told by its events; nothing is ever changed or deleted, and
the database itself refuses to (triggers). A committed revision survives a ``kill -9`` and a power cut
(``synchronous=FULL``).
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    created_ns INTEGER NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    revision INTEGER NOT NULL REFERENCES revisions(revision),
    phase TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_revision ON events(revision);
-- The replicas that were registered last: what a restarted control plane believes until they have come back.
CREATE TABLE IF NOT EXISTS replicas (
    cluster TEXT NOT NULL,
    replica TEXT NOT NULL,
    address TEXT NOT NULL,
    loaded TEXT NOT NULL,
    PRIMARY KEY (cluster, replica)
) STRICT;
"""

_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_no_{action} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END;
"""


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
class StoredRevision:
    """A revision as the registry holds it; the document is in the shape of ``routes.yaml``."""

    revision: int
    created_ns: int
    author: str
    comment: str
    document: dict[str, Any]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A replica as it was last registered."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]


class Registry:
    """The revisions and their events.

    Raises:
        LabError: the file cannot be opened or is not a registry; says what to do.
    """

    def __init__(self, path: Path) -> None:
        try:
            with ExitStack() as if_it_fails:
                self._db = sqlite3.connect(path, isolation_level=None)
                if_it_fails.callback(self._db.close)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(_SCHEMA)
                for table in ("revisions", "events"):
                    for action in ("UPDATE", "DELETE"):
                        self._db.execute(_APPEND_ONLY.format(table=table, action=action))
                if_it_fails.pop_all()
        except sqlite3.Error as error:
            message = f"{path}: cannot open the registry of revisions: {error}; move the file away to begin anew"
            raise LabError(message) from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def append(self, document: dict[str, Any], *, author: str, comment: str) -> int:
        """Stores a route table durably and returns its revision."""
        with self._transaction():
            now = time.time_ns()
            with closing(
                self._db.execute(
                    "INSERT INTO revisions (created_ns, author, comment, document) VALUES (?, ?, ?, ?)",
                    (now, author, comment, json.dumps(document, separators=(",", ":"))),
                )
            ) as cursor:
                revision = cursor.lastrowid
            assert revision is not None  # noqa: S101 (SQLite sets it on every INSERT)
            self._insert_event(revision, Event(Phase.STORED, now, ""))
        return revision

    def record(self, revision: int, phase: Phase, detail: str = "") -> Event:
        """Stores durably what became of a revision, with the present time."""
        event = Event(phase, time.time_ns(), detail)
        with self._transaction():
            self._insert_event(revision, event)
        return event

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""
        row = self._db.execute(
            "SELECT revision FROM events WHERE phase = ? ORDER BY id DESC LIMIT 1", (Phase.CONVERGED,)
        ).fetchone()
        return int(row[0]) if row else 0

    def unfinished(self) -> list[int]:
        """Revisions whose publish was cut off: they neither converged nor failed."""
        rows = self._db.execute(
            "SELECT revision FROM revisions EXCEPT SELECT revision FROM events WHERE phase IN (?, ?) ORDER BY revision",
            (Phase.CONVERGED, Phase.FAILED),
        )
        return [int(row[0]) for row in rows]

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""
        row = self._db.execute("SELECT * FROM revisions WHERE revision = ?", (revision,)).fetchone()
        return self._stored(row) if row else None

    def all(self) -> list[StoredRevision]:
        """All revisions, oldest first."""
        return [self._stored(row) for row in self._db.execute("SELECT * FROM revisions ORDER BY revision").fetchall()]

    def save_replicas(self, replicas: Iterable[StoredReplica]) -> None:
        """Remembers who is registered now, instead of who was."""
        with self._transaction():
            self._db.execute("DELETE FROM replicas")
            self._db.executemany(
                "INSERT INTO replicas VALUES (?, ?, ?, ?)",
                [(each.cluster, each.replica, each.address, " ".join(each.loaded)) for each in replicas],
            )

    def replicas(self) -> list[StoredReplica]:
        """Who was registered last."""
        rows = self._db.execute("SELECT cluster, replica, address, loaded FROM replicas").fetchall()
        return [
            StoredReplica(cluster, replica, address, tuple(loaded.split()))
            for cluster, replica, address, loaded in rows
        ]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _insert_event(self, revision: int, event: Event) -> None:
        self._db.execute(
            "INSERT INTO events (revision, phase, at_ns, detail) VALUES (?, ?, ?, ?)",
            (revision, event.phase, event.at_ns, event.detail),
        )

    def _stored(self, row: tuple[int, int, str, str, str]) -> StoredRevision:
        revision, created_ns, author, comment, document = row
        events = self._db.execute("SELECT phase, at_ns, detail FROM events WHERE revision = ? ORDER BY id", (revision,))
        return StoredRevision(
            revision,
            created_ns,
            author,
            comment,
            json.loads(document),
            tuple(Event(Phase(phase), at_ns, detail) for phase, at_ns, detail in events),
        )


class _Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or ``ROLLBACK`` on an exception."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
