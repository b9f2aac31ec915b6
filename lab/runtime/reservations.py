"""Books of reservations, by which labs that start at the same time on one machine do not take each other's things."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import lock_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = Path("/tmp")  # noqa: S108 (a user's own file in it, by a name that says whose)
"""The same for all of a user's labs, whatever their ``TMPDIR``: ports and networks are the machine's."""

_POLL_S = 0.01


@contextmanager
def locked(name: str) -> Iterator[dict[str, list[int]]]:
    """One book of this user's labs: folder of each lab → numbers that it has reserved; locked while it is open.

    A reservation lapses with the folder.
    """
    path = PLACE / f"lab-{name}-{os.getuid()}.json"
    with path.open("a+") as file:
        lock_descriptor(file.fileno(), poll_interval=_POLL_S)  # until it is closed
        file.seek(0)
        try:
            reservations = json.loads(file.read() or "{}")
        except ValueError:
            reservations = {}
        reservations = {owner: numbers for owner, numbers in reservations.items() if Path(owner).is_dir()}
        yield reservations
        file.seek(0)
        file.truncate()
        json.dump(reservations, file)


def release(name: str, owner: Path) -> None:
    """Gives back what a lab has reserved."""
    with locked(name) as reservations:
        reservations.pop(str(owner), None)
