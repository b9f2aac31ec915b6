"""The registry of revisions: append-only, in SQLite.

A revision is a route table: stored whole, or as what it changes in an earlier one, until the changes since the latest
whole one outweigh that. What became of it is told by its events; nothing is ever changed or deleted, and the database
itself refuses to (triggers). A committed revision survives a ``kill -9`` and a power cut (``synchronous=FULL``).
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lab.transport.audit import Act
from services.controlplane.clock import Clock
from services.controlplane.database import Database
from services.controlplane.differences import applied, difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    created_ns INTEGER NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL,
    -- The revision that the document changes; NULL if it is a whole one.
    base INTEGER REFERENCES revisions(revision),
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
CREATE TABLE IF NOT EXISTS acknowledgements (
    revision INTEGER NOT NULL REFERENCES revisions(revision),
    node TEXT NOT NULL,
    role TEXT NOT NULL,
    sent_ns INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS acknowledgements_by_revision ON acknowledgements(revision);
CREATE TABLE IF NOT EXISTS acts (
    act INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    who TEXT NOT NULL,
    unit TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outcomes (
    act INTEGER PRIMARY KEY REFERENCES acts(act),
    at_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
-- The replicas that were registered last: what a restarted control plane believes until they have come back.
CREATE TABLE IF NOT EXISTS replicas (
    cluster TEXT NOT NULL,
    replica TEXT NOT NULL,
    address TEXT NOT NULL,
    loaded TEXT NOT NULL,
    PRIMARY KEY (cluster, replica)
) STRICT;
"""

_SELECT = "SELECT revision, created_ns, author, comment FROM revisions"

_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_no_{action} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END;
"""
_SCHEMA += "".join(
    _APPEND_ONLY.format(table=table, action=action)
    for table in ("revisions", "events", "acknowledgements", "acts", "outcomes")
    for action in ("UPDATE", "DELETE")
)


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
    """A revision as the registry holds it; for its route table see :meth:`Registry.document`.

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
class StoredReplica:
    """A replica as it was last registered."""

    cluster: str
    replica: str
    address: str
    loaded: tuple[str, ...]


class Registry:
    """The revisions and their events.

    Args:
        path: its file.
        clock: says when; what is in the file already has been.

    Raises:
        RegistryError: the file cannot be opened or is not a registry; says what to do. So do all methods.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._db = Database(path, _SCHEMA)
        self.clock = clock or Clock()
        for [latest] in self._db.rows("SELECT at_ns FROM events ORDER BY id DESC LIMIT 1"):
            self.clock.has_been(latest)
        # Revision → bytes of the whole document that it rests on, and of all changes since. Of those that another
        # process stored nothing is known: what rests on them is stored whole.
        self._weights: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def append(
        self,
        document: dict[str, Any],
        *,
        author: str,
        comment: str,
        created_ns: int = 0,
        replaces: tuple[int, dict[str, Any]] | None = None,
    ) -> tuple[int, Event]:
        """Stores a route table durably and returns its revision, and the event that says so.

        Args:
            document: in the shape of ``routes.yaml``.
            author: who publishes.
            comment: why.
            created_ns: when the call arrived, Unix nanoseconds; now if 0.
            replaces: a stored revision and its document, so that the difference may be stored alone.
        """
        base, text, weight = self._form_of(document, replaces)
        event = Event(Phase.STORED, self.clock.now_ns(), "")
        with self._db.transaction():
            revision = self._db.insert(
                "INSERT INTO revisions (created_ns, author, comment, base, document) VALUES (?, ?, ?, ?, ?)",
                (created_ns or event.at_ns, author, comment, base, text),
            )
            self._insert_event(revision, event)
        self._weights[revision] = weight
        return revision, event

    def _form_of(
        self, document: dict[str, Any], replaces: tuple[int, dict[str, Any]] | None
    ) -> tuple[int | None, str, tuple[int, int]]:
        """Base, text and weight of what is to be stored."""
        if replaces is not None and replaces[0] in self._weights:
            base, before = replaces
            whole, changes = self._weights[base]
            text = _json(difference(before, document))
            if changes + len(text) <= whole:
                return base, text, (whole, changes + len(text))
        text = _json(document)
        return None, text, (len(text), 0)

    def record(
        self, revision: int, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()
    ) -> Event:
        """Stores durably what became of a revision, with the present time, and who has acknowledged it."""
        event = Event(phase, self.clock.now_ns(), detail)
        with self._db.transaction():
            self._insert_event(revision, event)
            self._db.insert_all(
                "INSERT INTO acknowledgements VALUES (?, ?, ?, ?, ?)",
                [(revision, each.node, each.role, each.sent_ns, each.at_ns) for each in acknowledgements],
            )
        return event

    def in_force(self) -> int:
        """The latest revision that converged; 0 if there is none."""
        row = self._db.row("SELECT revision FROM events WHERE phase = ? ORDER BY id DESC LIMIT 1", (Phase.CONVERGED,))
        return int(row[0]) if row else 0

    def unfinished(self) -> list[int]:
        """Revisions whose publish was cut off: they neither converged nor failed."""
        rows = self._db.rows(
            "SELECT revision FROM revisions EXCEPT SELECT revision FROM events WHERE phase IN (?, ?) ORDER BY revision",
            (Phase.CONVERGED, Phase.FAILED),
        )
        return [int(row[0]) for row in rows]

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""
        row = self._db.row(f"{_SELECT} WHERE revision = ?", (revision,))
        return self._stored(row) if row else None

    def document(self, revision: int) -> dict[str, Any]:
        """The route table of a revision that there is."""
        changes = []
        base: int | None = revision
        try:
            while base is not None:
                [(base, text)] = self._db.rows("SELECT base, document FROM revisions WHERE revision = ?", (base,))
                changes.append(json.loads(text))
            document: dict[str, Any] = changes.pop()
            for change in reversed(changes):
                document = applied(document, change)
        except (ValueError, LookupError, TypeError) as error:
            raise self._db.damaged(f"revision {revision} cannot be read: {error}") from error
        return document

    def all(self) -> list[StoredRevision]:
        """All revisions, oldest first."""
        return [self._stored(row) for row in self._db.rows(f"{_SELECT} ORDER BY revision")]

    def begin_act(self, act: Act) -> int:
        """Stores durably what somebody is about to do, and returns its number."""
        return self._db.insert("INSERT INTO acts VALUES (NULL, ?, ?, ?, ?, ?)", astuple(act))

    def end_act(self, number: int, status: str, reason: str) -> None:
        """Stores durably what has become of an act."""
        self._db.insert("INSERT INTO outcomes VALUES (?, ?, ?, ?)", (number, self.clock.now_ns(), status, reason))

    def acts(self, last: int = 0) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of so many of the latest, or of all for 0; oldest first.

        Status and reason are empty of an act that has not ended, or was cut off with the control plane.
        """
        rows = self._db.rows(
            "SELECT act, acts.at_ns, who, unit, what, detail, coalesce(status, ''), coalesce(reason, '')"
            " FROM acts LEFT JOIN outcomes USING (act) ORDER BY act DESC LIMIT ?",
            (last or -1,),
        )
        return [(number, Act(*act), status, reason) for number, *act, status, reason in reversed(rows)]

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Remembers who is registered now of these clusters, instead of who was."""
        with self._db.transaction():
            for cluster in clusters:
                self._db.rows("DELETE FROM replicas WHERE cluster = ?", (cluster,))
            self._db.insert_all(
                "INSERT INTO replicas VALUES (?, ?, ?, ?)",
                [(each.cluster, each.replica, each.address, " ".join(each.loaded)) for each in replicas],
            )

    def replicas(self) -> list[StoredReplica]:
        """Who was registered last."""
        rows = self._db.rows("SELECT cluster, replica, address, loaded FROM replicas")
        return [
            StoredReplica(cluster, replica, address, tuple(loaded.split()))
            for cluster, replica, address, loaded in rows
        ]

    def _insert_event(self, revision: int, event: Event) -> None:
        self._db.insert(
            "INSERT INTO events (revision, phase, at_ns, detail) VALUES (?, ?, ?, ?)",
            (revision, event.phase, event.at_ns, event.detail),
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


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
