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


def lock_of(folder: Path) -> Path:
    """The lock of the lab in a folder: beside it, as `lab down` removes the folder."""
    return folder.parent / f"{folder.name}.lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of the lab in ``folder``, which it creates.

    At the end, also by an error, it removes the lock, the folder if it is empty, and the parents that it created.

    Raises:
        LabError: another command holds it.
    """
    lock = FileLock(lock_of(folder))
    created = [each for each in folder.parents if each == folder.parent or not each.exists()]
    try:
        eventually("the lock is held", lambda: _try_acquire(lock), within=_PATIENCE)
    except (PermissionError, NotADirectoryError) as error:
        raise LabError(f"{error.filename}: {error.strerror}; set LAB_HOME to a folder that you can write") from None
    except DeadlineError:
        if not folder.parent.is_dir():
            raise LabError(f"{folder.parent}: cannot be created; set LAB_HOME to a folder that you can write") from None
        raise LabError(f"lab {folder.name} is being brought up or down by another command; try again") from None
    try:
        folder.mkdir(exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        Path(lock.lock_file).unlink(missing_ok=True)
        with suppress(OSError):
            for each in created:
                each.rmdir()  # other labs may be in it
        lock.release()


def _try_acquire(lock: FileLock) -> bool:
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except (Timeout, FileExistsError, FileNotFoundError):  # held, or its folder is being removed
        return False
    return True
