"""A registry's store in an SQLite file: the default, of control planes on one machine.

Who follows it holds a lock on a file of its name beside it, which ends with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from lab.errors import RegistryError
from services.controlplane.registry.sql_store import APPEND_ONLY, SCHEMA, SqlSession, SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from pathlib import Path

_SCHEMA = SCHEMA.format(key="INTEGER PRIMARY KEY AUTOINCREMENT", number="INTEGER", strict="STRICT", rowid="") + "".join(
    f"""
CREATE TRIGGER IF NOT EXISTS {table}_no_{action} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END;
"""
    for table in APPEND_ONLY
    for action in ("UPDATE", "DELETE")
)
_DAMAGED = (
    "put a copy of it back, save what can be read by `sqlite3 FILE .recover`, or move the file away to begin anew"
)
_OF_NO_USE = "see to it that this user may write the file and its folder, which holds the journal beside it"
# SQLite's primary code → what to do.
_REMEDIES = {
    sqlite3.SQLITE_FULL: "nothing was stored: free some space on that disk, then do it again",
    sqlite3.SQLITE_READONLY: _OF_NO_USE,
    sqlite3.SQLITE_CANTOPEN: _OF_NO_USE,
    sqlite3.SQLITE_PERM: _OF_NO_USE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_BUSY: "another process holds it: do it again, or stop that process",
    sqlite3.SQLITE_IOERR: "nothing was stored: look at that disk",
}
_PRIMARY = 0xFF
# As long as SQLite waits for another process in all other statements.
_WAIT_S = 5.0
# SQLite tells nobody; to ask costs a look at the file's shared memory.
_LOOK_EVERY_S = 0.02


class SqliteStore(SqlStore):
    """One file; see :class:`.store.Store`.

    Args:
        path: it.
    """

    def __init__(self, path: Path) -> None:
        db = SqliteSession(path, _SCHEMA)
        super().__init__(db)
        self._version = db.version
        self._followers = path.with_name(f"{path.name}.followers")

    async def changes(self, follower: str) -> AsyncGenerator[None]:
        """See :meth:`.store.Store.changes`."""
        try:
            self._followers.mkdir(exist_ok=True)
            lock = (self._followers / follower).open("w")
        except OSError as error:
            raise RegistryError(f"{self._followers}: cannot be written: {error}") from error
        with lock:
            # Whoever had the name is about to end.
            while not _locked(lock):  # noqa: ASYNC110 (another process's)
                await asyncio.sleep(_LOOK_EVERY_S)
            seen = None
            while True:
                version = seen
                with suppress(RegistryError):  # it is tried again, and whoever has to store something says so
                    version = self._version()
                if version != seen:
                    seen = version
                    yield
                await asyncio.sleep(_LOOK_EVERY_S)

    def followers(self) -> set[str]:
        """See :meth:`.store.Store.followers`."""
        found = set()
        for path in self._followers.glob("*"):
            with path.open() as file:
                if not _locked(file, fcntl.LOCK_SH):
                    found.add(path.name)
        return found


class SqliteSession(SqlSession):
    """One file, of which what is committed survives a ``kill -9`` and a power cut.

    Args:
        path: the file; made if it is not there.
        schema: statements that may be carried out again.

    Raises:
        RegistryError: the file cannot be opened, or is damaged; says what to do. So do all methods.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        with ExitStack() as if_it_fails, self._telling():
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
            if_it_fails.callback(self._db.close)
            self._keep_a_write_ahead_log()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(schema)
            [found] = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise self.damaged(" ".join(found.split()))
            if_it_fails.pop_all()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._telling():
            return self._db.execute(statement, parameters).fetchall()

    def insert_all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows."""
        with self._telling():
            self._db.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done in it is stored durably at its end, or nothing."""
        with self._telling():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # Some errors, a full disk among them, may have ended the transaction already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, int]:
        """Another one whenever somebody has stored something since, here or in another process."""
        [[by_others]] = self.rows("PRAGMA data_version")
        return int(by_others), self._db.total_changes

    def damaged(self, what: str) -> RegistryError:
        """What is read makes no sense."""
        return RegistryError(f"{self._path}: the registry of revisions is damaged: {what}; {_DAMAGED}")

    def _keep_a_write_ahead_log(self) -> None:
        """Waits for another process that does the same: of all statements this one alone SQLite does not let wait."""
        give_up_at = time.monotonic() + _WAIT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                    raise
                time.sleep(_LOOK_EVERY_S)
            else:
                return

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "move the file away to begin anew")
            raise RegistryError(f"{self._path}: cannot use the registry of revisions: {error}; {remedy}") from error


def _locked(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
