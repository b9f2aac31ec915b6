"""One `up` or `down` of a lab at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from lab.errors import DeadlineError, LabError
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A command that was killed may have left a child on its way to being a unit, which still holds what it held.
_PATIENCE = timedelta(seconds=2)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of the lab in ``folder``, which is made if it is not there; the lock goes with the folder.

    Raises:
        LabError: another command holds it.
    """
    # Beside the folder, since `down` removes that.
    path = folder.parent / f"{folder.name}.lock"
    with ExitStack() as stack:
        try:
            eventually("the lock is held", lambda: _take(path, stack), within=_PATIENCE)
        except DeadlineError:
            raise LabError(f"lab {folder.name} is being brought up or down by another command; try again") from None
        folder.mkdir(exist_ok=True)
        yield
        if not folder.exists():
            path.unlink()
            with suppress(OSError):
                folder.parent.rmdir()  # other labs may be in it


def _take(path: Path, stack: ExitStack) -> bool:
    with ExitStack() as attempt:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = attempt.enter_context(path.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed it meanwhile, and a lock on a file that nobody finds is worth nothing.
            is_found = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileExistsError, FileNotFoundError):  # held, or just being removed
            return False
        if is_found:
            stack.push(attempt.pop_all())
        return is_found
