"""Reservations of ports and networks, so that labs that start at the same time do not take each other's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import reading
from lab.errors import UnitError
from lab.runtime import user_folder


@contextmanager
def locked(name: str) -> Iterator[dict[str, list[int]]]:
    """The reservations of one kind, locked for the body: folder of each lab → the numbers that it has reserved.

    A reservation ends when the lab's folder is removed.

    Raises:
        UnitError: they cannot be read, or another process holds the lock.
    """
    with user_folder.locked(name) as folder:
        path = folder / f"{name}.json"
        found = _read(path) if path.exists() else {}
        reservations = {owner: numbers for owner, numbers in found.items() if Path(owner).is_dir()}
        yield reservations
        new = folder / f"{name}.new"
        new.write_text(json.dumps(reservations))
        new.replace(path)


def release(name: str, owner: Path) -> None:
    """Frees everything of one kind that a lab has reserved."""
    with locked(name) as reservations:
        reservations.pop(str(owner), None)


def _read(path: Path) -> dict[str, list[int]]:
    try:
        found: Any = reading.read_json(path)
    except (OSError, ValueError) as error:
        where = reading.where(path, error) if isinstance(error, ValueError) else path
        raise UnitError(f"{where}: cannot be read ({error}); remove it") from error
    if not isinstance(found, dict) or not all(
        isinstance(numbers, list) and all(isinstance(each, int) for each in numbers) for numbers in found.values()
    ):
        raise UnitError(f"{path}: has no reservations; remove it")
    return found
