"""One `up` or `down` of a lab at a time."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from lab.errors import DeadlineError, LabError
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A command that was killed may have left a child on its way to being a unit, which still holds what it held.
_PATIENCE = timedelta(seconds=2)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of the lab in ``folder``, which is made if it is not there.

    Raises:
        LabError: another command holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder, since `down` removes that.
    with (folder.parent / f"{folder.name}.lock").open("w") as file:
        try:
            eventually("the lock is free", lambda: _is_locked_now(file), within=_PATIENCE)
        except DeadlineError:
            raise LabError(f"lab {folder.name} is being brought up or down by another command; try again") from None
        yield


def _is_locked_now(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
