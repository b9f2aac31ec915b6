"""The SQLite file under the registry: opened with care, and every error of it told in one line with the way out."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lab.errors import RegistryError
from services.controlplane.statements import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

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
_LOOK_EVERY_S = 0.02


class Database(Rows):
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
