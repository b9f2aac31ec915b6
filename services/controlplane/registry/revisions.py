"""The registry of revisions: append-only except for the replicas, over an :mod:`.sql` session.

A revision is a route table. It is stored whole, or as a diff against an earlier revision until the diffs since the
latest whole one are larger than that. Events record its phases. Nothing is changed or deleted; triggers in the database
enforce that. A committed revision survives ``kill -9`` and a power cut.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RegistryError, StaleRevisionError
from lab.transport.rpc_logs import Act
from services.controlplane.registry.clock import Clock
from services.controlplane.registry.records import (
    ENDS,
    Acknowledgement,
    Event,
    Phase,
    StoredEvent,
    StoredReplica,
    StoredRevision,
)
from services.controlplane.registry.sqlite import SqliteSession
from services.controlplane.registry.table_diff import apply_diff, diff

if TYPE_CHECKING:
    from lab.routing.difference import Difference
    from services.controlplane.registry.sql import SqlSession

log = logging.getLogger(__name__)

POSTGRESQL = ("postgresql://", "postgres://")
"""Prefixes of the address of a PostgreSQL database; any other address is an SQLite file."""

_SELECT = (
    "SELECT revision, created_ns, author, comment, COALESCE(callers, '')"
    " FROM revisions LEFT JOIN stages USING (revision)"
)
_TO_ALL = " AND revision NOT IN (SELECT revision FROM stages)"
_CONVERGED = "SELECT COALESCE(MAX(revision), 0) FROM events WHERE phase = ?"
_IN_FORCE_AT = f"({_CONVERGED} AND at_ns <= ?{_TO_ALL})"
_EVENTS = "SELECT id, revision, phase, at_ns, detail FROM events"
_ENDS = tuple(phase.value for phase in ENDS)
_ALL = 2**62


def _open_session(where: Path | str) -> SqlSession:
    if str(where).startswith(POSTGRESQL):
        # Its library is an optional extra.
        from services.controlplane.registry.postgres import PostgresSession  # noqa: PLC0415

        return PostgresSession(str(where))
    return SqliteSession(Path(where))


class Registry:
    """The revisions and their events.

    Args:
        where: an SQLite file, or ``postgresql://…``.
        clock: times events; never earlier than an event that is already stored.

    Raises:
        RegistryError: the database cannot be opened or is not a registry's; names the remedy. So do all methods.
    """

    def __init__(self, where: Path | str, clock: Clock | None = None) -> None:
        self._db = _open_session(where)
        self.clock = clock or Clock()
        latest = self.latest_event()
        if latest is not None:
            self.clock.advance_to(latest.event.at_ns)
        # Revision → bytes of the whole document at the end of its diff chain, and of all diffs in the chain. Revisions
        # stored by another process are unknown here: their successors are stored whole.
        self._weights: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    def append(
        self,
        document: dict[str, Any],
        *,
        author: str,
        comment: str,
        created_ns: int = 0,
        replaces: tuple[int, dict[str, Any]] | None = None,
        within: Difference | None = None,
        after: int | None = None,
        above: int = 0,
        detail: str = "",
        callers: Iterable[str] = (),
    ) -> tuple[int, Event]:
        """Stores a route table durably; returns its revision and the event of that.

        Args:
            document: in the shape of ``routes.yaml``.
            author: who publishes.
            comment: why.
            created_ns: when the call arrived, Unix nanoseconds; now if 0.
            replaces: a stored revision and its document, to store only the diff.
            within: the only entries in which the two may differ, if that is known.
            after: compare-and-set: the latest stored revision must be this one; None skips the check.
            above: its revision is greater than this one, too.
            detail: of the event.
            callers: to whom it is published; empty for all.

        Raises:
            StaleRevisionError: another revision is the latest; nothing was stored.
        """
        base, text, weight = self._encoded(document, replaces, within)
        event = Event(Phase.STORED, self.clock.now_ns(), detail)
        with self._db.transaction():
            latest = self.latest()
            if after not in (None, latest):
                raise StaleRevisionError(f"revision {latest} has been stored since: check it, then publish again")
            revision = self._db.insert(
                "INSERT INTO revisions (revision, created_ns, author, comment, base, document)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING revision",
                (max(latest, above) + 1, created_ns or event.at_ns, author, comment, base, text),
            )
            if stage := ",".join(sorted(callers)):
                self._db.insert_all("INSERT INTO stages (revision, callers) VALUES (?, ?)", [(revision, stage)])
            self._insert_event(revision, event)
        self._weights[revision] = weight
        return revision, event

    def _encoded(
        self, document: dict[str, Any], replaces: tuple[int, dict[str, Any]] | None, within: Difference | None
    ) -> tuple[int | None, str, tuple[int, int]]:
        """Base, text and weight of the revision to store."""
        if replaces is not None and replaces[0] in self._weights:
            base, before = replaces
            whole, changes = self._weights[base]
            text = _json(diff(before, document, within))
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
        with self._db.transaction():
            self._check_not_ended(revision, event.phase)
            self._insert_event(revision, event)
            self._insert_acknowledgements(revision, acknowledgements)
        return event

    def _check_not_ended(self, revision: int, phase: Phase) -> None:
        """Of two control planes that both end a revision, only the first succeeds."""
        if phase not in (*_ENDS, Phase.RETIRED):
            return
        alike = _ENDS if phase in _ENDS else (Phase.RETIRED.value,) * 2
        row = self._db.row("SELECT phase FROM events WHERE revision = ? AND phase IN (?, ?)", (revision, *alike))
        if row is not None:
            raise StaleRevisionError(f"revision {revision} has {row[0]} already")

    def _insert_event(self, revision: int, event: Event) -> None:
        self._db.insert(
            "INSERT INTO events (revision, phase, at_ns, detail) VALUES (?, ?, ?, ?) RETURNING id",
            (revision, event.phase.value, event.at_ns, event.detail),
        )

    def _insert_acknowledgements(self, revision: int, acknowledgements: Sequence[Acknowledgement]) -> None:
        self._db.insert_all(
            "INSERT INTO acknowledgements (revision, node, role, sent_ns, at_ns) VALUES (?, ?, ?, ?, ?)",
            [(revision, *astuple(each)) for each in acknowledgements],
        )

    async def follow(self, follower: str, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Yields every event after a number, in order, as soon as any process has stored it; never ends.

        It resumes after the last event it yielded, whether the store's notifications are late, lost or duplicated.

        Args:
            follower: name for :meth:`followers`.
            after: an event's number; 0 for all.
        """
        async with aclosing(self._db.changes(follower)) as changes:
            async for _ in changes:
                try:
                    found = self.events(after)
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
        latest, settled, unfinished = self.latest_event(), self.latest(), self.unfinished()
        if latest is None:
            return 0, 0
        if not unfinished:
            return latest.number, settled
        begun = (each.number for each in self.events(0) if each.revision == unfinished[0])
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
        """Stores durably which phase of another's publish a follower has reached, or why (``error``) it failed to."""
        with self._db.transaction():
            self._db.insert(
                "INSERT INTO reports (revision, phase, follower, error) VALUES (?, ?, ?, ?) RETURNING id",
                (revision, phase.value, follower, error),
            )
            self._insert_acknowledgements(revision, acknowledgements)

    def reports(self, revision: int, phase: Phase) -> dict[str, str]:
        """Follower → its latest error, empty if none, for followers that have reported the phase."""
        rows = self._db.rows(
            "SELECT follower, error FROM reports WHERE revision = ? AND phase = ? ORDER BY id", (revision, phase.value)
        )
        return dict(rows)

    def followers(self) -> set[str]:
        """Names of the followers whose process is alive."""
        return self._db.followers()

    def latest(self) -> int:
        """The latest revision, also if it failed; 0 before the first."""
        return self._number("SELECT coalesce(max(revision), 0) FROM revisions")

    def in_force(self) -> int:
        """The latest revision that converged, of those published to all callers; 0 if there is none."""
        return self._number(_CONVERGED + _TO_ALL, _ENDS[:1])

    def staged(self) -> int:
        """The latest revision that converged, if it was published to some callers; 0 if there is none."""
        latest = self._number(_CONVERGED, _ENDS[:1])
        return latest if latest != self.in_force() else 0

    def _number(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        [[number]] = self._db.rows(statement, parameters)
        return int(number)

    def unfinished(self) -> list[int]:
        """Revisions whose publish is under way or was interrupted, oldest first: they neither converged nor failed."""
        rows = self._db.rows(
            "SELECT revision FROM revisions EXCEPT SELECT revision FROM events WHERE phase IN (?, ?) ORDER BY revision",
            _ENDS,
        )
        return [int(row[0]) for row in rows]

    def has_failed(self, revision: int) -> bool:
        """Whether the publish of an existing revision failed."""
        found = self.get(revision)
        return found is not None and any(each.phase is Phase.FAILED for each in found.events)

    def get(self, revision: int) -> StoredRevision | None:
        """One revision, or None."""
        row = self._db.row(f"{_SELECT} WHERE revision = ?", (revision,))
        return self._stored(row) if row else None

    def document(self, revision: int) -> dict[str, Any]:
        """The route table of an existing revision."""
        changes = []
        base: int | None = revision
        try:
            while base is not None:
                found = self._db.row("SELECT base, document FROM revisions WHERE revision = ?", (base,))
                if found is None:
                    raise LookupError(f"there is no revision {base}")  # noqa: TRY301 (one except clause handles all)
                base, text = found
                changes.append(json.loads(text))
            document: dict[str, Any] = changes.pop()
            for change in reversed(changes):
                document = apply_diff(document, change)
        except (ValueError, LookupError, TypeError) as error:
            raise self._db.damaged(f"revision {revision} cannot be read: {error}") from error
        return document

    def all(self, since_ns: int = 0) -> list[StoredRevision]:
        """All revisions, oldest first, except those replaced before ``since_ns``, Unix nanoseconds."""
        rows = self._db.rows(f"{_SELECT} WHERE revision >= {_IN_FORCE_AT} ORDER BY revision", (_ENDS[0], since_ns))
        return [self._stored(row) for row in rows]

    def _stored(self, row: tuple[Any, ...]) -> StoredRevision:
        revision, created_ns, author, comment, callers = row
        events = self._db.rows("SELECT phase, at_ns, detail FROM events WHERE revision = ? ORDER BY id", (revision,))
        acknowledgements = self._db.rows(
            "SELECT node, role, sent_ns, at_ns FROM acknowledgements WHERE revision = ? ORDER BY rowid", (revision,)
        )
        return StoredRevision(
            revision,
            created_ns,
            author,
            comment,
            tuple(filter(None, callers.split(","))),
            tuple(Event(Phase(phase), at_ns, detail) for phase, at_ns, detail in events),
            tuple(Acknowledgement(*each) for each in acknowledgements),
        )

    def events(self, after: int) -> list[StoredEvent]:
        """All events with a greater number, in order."""
        return self._stored_events("WHERE id > ? ORDER BY id", (after,))

    def latest_event(self) -> StoredEvent | None:
        """The event with the greatest number, or None."""
        return next(iter(self._stored_events("ORDER BY id DESC LIMIT 1")), None)

    def _stored_events(self, which: str, parameters: Sequence[Any] = ()) -> list[StoredEvent]:
        rows = self._db.rows(f"{_EVENTS} {which}", parameters)
        return [
            StoredEvent(number, revision, Event(Phase(phase), at_ns, detail))
            for number, revision, phase, at_ns, detail in rows
        ]

    def begin_act(self, act: Act) -> int:
        """Stores an administrative act durably before it is carried out, and returns its number."""
        return self._db.insert(
            "INSERT INTO acts (at_ns, who, unit, what, detail) VALUES (?, ?, ?, ?, ?) RETURNING act", astuple(act)
        )

    def end_act(self, number: int, status: str, reason: str) -> None:
        """Stores the outcome of an act durably."""
        self._db.insert(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?) RETURNING act", (number, self.clock.now_ns(), status, reason)
        )

    def acts(self, last: int = 0) -> list[tuple[int, Act, str, str]]:
        """Number, act, status and reason of the ``last`` acts, or of all if 0; oldest first.

        Status and reason are empty while an act is under way, or if the control plane died during it.
        """
        rows = self._db.rows(
            "SELECT act, acts.at_ns, who, unit, what, detail, coalesce(status, ''), coalesce(reason, '')"
            " FROM acts LEFT JOIN outcomes USING (act) ORDER BY act DESC LIMIT ?",
            (last or _ALL,),
        )
        return [(number, Act(*act), status, reason) for number, *act, status, reason in reversed(rows)]

    def admit_node(self, node: str, caller: str) -> None:
        """Stores durably that a node is admitted."""
        with self._db.transaction():
            if (node, caller) not in self.admitted_nodes():
                self._db.insert_all("INSERT INTO admitted_nodes VALUES (?, ?)", [(node, caller)])

    def admitted_nodes(self) -> frozenset[tuple[str, str]]:
        """Name and caller of each admitted node."""
        return frozenset((node, caller) for node, caller in self._db.rows("SELECT node, caller FROM admitted_nodes"))

    def save_replicas(self, replicas: Iterable[StoredReplica], clusters: Iterable[str]) -> None:
        """Replaces the saved replicas of these clusters."""
        with self._db.transaction():
            for cluster in clusters:
                self._db.rows("DELETE FROM replicas WHERE cluster = ?", (cluster,))
            self._db.insert_all(
                "INSERT INTO replicas VALUES (?, ?, ?, ?)",
                [(each.cluster, each.replica, each.address, " ".join(each.loaded)) for each in replicas],
            )

    def replicas(self) -> list[StoredReplica]:
        """All saved replicas."""
        rows = self._db.rows("SELECT cluster, replica, address, loaded FROM replicas")
        return [
            StoredReplica(cluster, replica, address, tuple(loaded.split()))
            for cluster, replica, address, loaded in rows
        ]


@contextmanager
def best_effort(subject: str = "") -> Iterator[None]:
    """Logs a :class:`RegistryError` and goes on: for writes that must not stop what they record."""
    try:
        yield
    except RegistryError as error:
        log.error("%s%s", subject, error)  # noqa: TRY400 (the message says it all)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
