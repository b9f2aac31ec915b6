"""The store in an SQLite file: the default, for control planes on one machine.

Each follower holds a lock on a file named after it, beside the database. The kernel releases the lock when the process
ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from lab.errors import RegistryError
from services.controlplane.registry.sql import APPEND_ONLY, SCHEMA, SqlSession

_SCHEMA = SCHEMA.format(key="INTEGER PRIMARY KEY AUTOINCREMENT", number="INTEGER", strict="STRICT", rowid="") + "".join(
    f"""
CREATE TRIGGER IF NOT EXISTS {table}_no_{action} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END;
"""
    for table in APPEND_ONLY
    for action in ("UPDATE", "DELETE")
)
_DAMAGED = "restore a copy, recover what is readable with `sqlite3 FILE .recover`, or move the file away to start empty"
_NOT_WRITABLE = "make the file and its folder writable for this user; SQLite keeps its journal beside the file"
# SQLite's primary result code → remedy.
_REMEDIES = {
    sqlite3.SQLITE_FULL: "nothing was stored: free space on that disk and retry",
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_BUSY: "another process holds its lock: retry, or stop that process",
    sqlite3.SQLITE_IOERR: "nothing was stored: check that disk",
}
_PRIMARY = 0xFF
# SQLite's busy timeout, also for the one statement that does not honour it.
_WAIT_S = 5.0
# SQLite notifies nobody; polling reads only the file's shared memory.
_LOOK_EVERY_S = 0.02


class SqliteSession(SqlSession):
    """A connection whose commits survive ``kill -9`` and a power cut.

    Args:
        path: the file; created if missing.

    Raises:
        RegistryError: the file cannot be opened, or is damaged; names the remedy.
    """

    BEGIN, COMMIT, IF_DAMAGED = ("BEGIN IMMEDIATE",), ("COMMIT",), _DAMAGED
    _db: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._followers = path.with_name(f"{path.name}.followers")
        with ExitStack() as if_it_fails, self._translated_errors():
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
            if_it_fails.callback(self._db.close)
            self._enable_write_ahead_log()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            [found] = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise self.damaged(" ".join(found.split()))
            if_it_fails.pop_all()

    async def changes(self, follower: str) -> AsyncGenerator[None]:
        """See :meth:`.sql.SqlSession.changes`."""
        try:
            self._followers.mkdir(exist_ok=True)
            lock = (self._followers / follower).open("w")
        except OSError as error:
            raise RegistryError(f"{self._followers}: cannot be written: {error}") from error
        with lock:
            # A predecessor of the same name is about to end.
            while not _try_lock(lock):  # noqa: ASYNC110 (another process holds it)
                await asyncio.sleep(_LOOK_EVERY_S)
            seen = None
            while True:
                version = seen
                with suppress(RegistryError):  # retried; the next write reports it
                    version = self.version()
                if version != seen:
                    seen = version
                    yield
                await asyncio.sleep(_LOOK_EVERY_S)

    def followers(self) -> set[str]:
        """See :meth:`.sql.SqlSession.followers`."""
        found = set()
        for path in self._followers.glob("*"):
            with path.open() as file:
                if not _try_lock(file, fcntl.LOCK_SH):
                    found.add(path.name)
        return found

    def version(self) -> tuple[int, int]:
        """Changes with every commit, in this process or another."""
        [[by_others]] = self.rows("PRAGMA data_version")
        return int(by_others), self._db.total_changes

    def _enable_write_ahead_log(self) -> None:
        """Retries while another process does the same: SQLite's busy timeout does not cover this statement."""
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

    def _is_in_transaction(self) -> bool:
        return self._db.in_transaction

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = _REMEDIES.get(
                getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "move the file away to start empty"
            )
            raise RegistryError(f"{self.name}: cannot use the registry of revisions: {error}; {remedy}") from error


def _try_lock(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
