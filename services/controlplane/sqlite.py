"""A registry's store in an SQLite file: the default, of control planes on one machine.

Who follows it holds a lock on a file of its name beside it, which ends with its process, however that ends.
"""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from lab.errors import RegistryError
from services.controlplane.database import Database
from services.controlplane.statements import APPEND_ONLY, SCHEMA, SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

_SCHEMA = SCHEMA.format(key="INTEGER PRIMARY KEY AUTOINCREMENT", number="INTEGER", strict="STRICT", rowid="") + "".join(
    f"""
CREATE TRIGGER IF NOT EXISTS {table}_no_{action} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END;
"""
    for table in APPEND_ONLY
    for action in ("UPDATE", "DELETE")
)
# SQLite tells nobody; to ask costs a look at the file's shared memory.
_LOOK_EVERY_S = 0.02


class SqliteStore(SqlStore):
    """One file; see :class:`.store.Store`.

    Args:
        path: it.
    """

    def __init__(self, path: Path) -> None:
        db = Database(path, _SCHEMA)
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


def _locked(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
