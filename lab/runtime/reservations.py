"""Reservations of ports and networks, so that labs that start at the same time do not take each other's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

PLACE = Path("/tmp")  # noqa: S108 (the file's name contains the user's id)
"""The same folder for all of a user's labs, also with another ``TMPDIR``: ports and networks belong to the machine."""

_POLL_S = 0.01


@contextmanager
def locked(name: str) -> Iterator[dict[str, list[int]]]:
    """The reservations of one kind, locked for the body: folder of each lab → the numbers that it has reserved.

    A reservation ends when the lab's folder is removed.
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
    """Frees everything of one kind that a lab has reserved."""
    with locked(name) as reservations:
        reservations.pop(str(owner), None)
