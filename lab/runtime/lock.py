"""The lock by which one command at a time changes a lab."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from lab.errors import DeadlineError, LabError
from lab.waiting import eventually

# A child of a killed command inherits the lock and holds it until it becomes a unit (fork, then exec).
_PATIENCE = timedelta(seconds=2)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of the lab in ``folder``. Creates the folder; removes the lock if the folder is gone in the end.

    Raises:
        LabError: another command holds it.
    """
    # Beside the folder, as `lab down` removes the folder.
    lock = FileLock(folder.parent / f"{folder.name}.lock")
    try:
        eventually("the lock is held", lambda: _try_acquire(lock), within=_PATIENCE)
    except DeadlineError:
        raise LabError(f"lab {folder.name} is being brought up or down by another command; try again") from None
    try:
        folder.mkdir(exist_ok=True)
        yield
        if not folder.exists():
            Path(lock.lock_file).unlink()
            with suppress(OSError):
                folder.parent.rmdir()  # other labs may be in it
    finally:
        lock.release()


def _try_acquire(lock: FileLock) -> bool:
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except (Timeout, FileExistsError, FileNotFoundError):  # held, or its folder is being removed
        return False
    return True
