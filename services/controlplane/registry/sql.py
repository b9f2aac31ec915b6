"""The registry's SQL database: its schema, and a session of :mod:`.sqlite` or :mod:`.postgres`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from lab.errors import RegistryError

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
-- The callers, comma-separated, of the revisions that were published to some callers only.
CREATE TABLE IF NOT EXISTS stages (
    revision {number} PRIMARY KEY REFERENCES revisions(revision),
    callers TEXT NOT NULL
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
-- Nodes that the operator admits beside those of the plan, and the caller for which each acts by itself, if it does.
CREATE TABLE IF NOT EXISTS admitted_nodes (
    node TEXT NOT NULL,
    caller TEXT NOT NULL,
    PRIMARY KEY (node, caller)
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

APPEND_ONLY = ("revisions", "stages", "events", "acknowledgements", "reports", "acts", "outcomes", "admitted_nodes")
"""Tables in which triggers refuse UPDATE and DELETE."""


class SqlSession(ABC):
    """A connection to an SQL database; ``?`` marks parameters.

    Attributes:
        name: the file, or the address without its password.

    Raises:
        RegistryError: the database failed; names the remedy. So do all methods.
    """

    BEGIN: ClassVar[Sequence[str]]
    COMMIT: ClassVar[Sequence[str]]
    IF_DAMAGED: ClassVar[str]
    """What to do if stored rows are inconsistent."""

    name: str
    _db: Any

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._translated_errors():
            cursor = self._execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(statement, parameters)), None)

    def insert(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Inserts a row and returns the number of its RETURNING clause."""
        [[number]] = self.rows(statement, parameters)
        return int(number)

    def insert_all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Inserts rows."""
        with self._translated_errors():
            self._db.cursor().executemany(self._query(statement), list(rows))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits durably at its end, or rolls back on an error; writers are serialised."""
        with self._translated_errors():
            try:
                for statement in self.BEGIN:
                    self._execute(statement)
                yield
                for statement in self.COMMIT:
                    self._execute(statement)
            except BaseException:
                # Some errors, such as a full disk, end the transaction themselves.
                if self._is_in_transaction():
                    self._db.execute("ROLLBACK")
                raise

    def damaged(self, what: str) -> RegistryError:
        """The error to raise when stored rows are inconsistent."""
        return RegistryError(f"{self.name}: the registry of revisions is damaged: {what}; {self.IF_DAMAGED}")

    @abstractmethod
    def changes(self, follower: str) -> AsyncGenerator[None]:
        """Yields immediately, and whenever any process may have stored something; never ends.

        It may yield too often, but never too rarely: the reader selects what is new. It retries for as long as the
        database is unreachable.

        Args:
            follower: name that :meth:`followers` lists until this process ends.
        """

    @abstractmethod
    def followers(self) -> set[str]:
        """Names of the followers whose process is alive."""

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        return self._db.execute(self._query(statement), parameters)

    def _query(self, statement: str) -> Any:
        """The statement with the driver's own marks of parameters."""
        return statement

    @abstractmethod
    def _is_in_transaction(self) -> bool: ...

    @abstractmethod
    def _translated_errors(self) -> AbstractContextManager[None]:
        """Raises the driver's errors as a :class:`RegistryError`."""
