"""Keeps the faults that are injected in the lab's folder, so that another process can list and heal them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from lab.errors import LabError
from lab.reading import read_json

STATE, LOCK = "faults.json", "faults.lock"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that is injected.

    Attributes:
        id: e.g. ``slow-3``; numbers are not used again while the lab is up.
        kind: its kind's name.
        group: its kind's group.
        target: as the user named it.
        level: whose values hold for settings that the user did not give.
        seed: of its random choices.
        settings: values of its options.
        units: names of the units that it hits.
        injected_ns: when, Unix nanoseconds.
        until_ns: when its timer heals it, Unix nanoseconds; 0 if it has none.
        memory: state that its kind needs to observe and heal it.
    """

    id: str
    kind: str
    group: str
    target: str
    level: str
    seed: int
    settings: Mapping[str, Any]
    units: tuple[str, ...]
    injected_ns: int
    until_ns: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)

    def remembering(self, more: Mapping[str, Any]) -> FaultRecord:
        """Returns the record with more in its memory."""
        return replace(self, memory={**self.memory, **more})


class FaultStore:
    """The records of one lab; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / STATE

    def all(self) -> list[FaultRecord]:
        """Returns all faults that are injected, oldest first.

        Raises:
            LabError: the file is damaged.
        """
        return self._load()[1]

    def find(self, fault_id: str) -> FaultRecord | None:
        """Returns one of them; None if it is healed."""
        return next((each for each in self.all() if each.id == fault_id), None)

    @contextmanager
    def adding(self, kind: str) -> Iterator[tuple[str, list[FaultRecord], list[FaultRecord]]]:
        """Yields an id for a new fault, the faults that are injected, and a list that takes the new one."""
        with self._locked():
            next_number, records = self._load()
            new: list[FaultRecord] = []
            yield f"{kind}-{next_number}", records, new
            self._save(next_number + 1, [*records, *new])

    def put(self, record: FaultRecord) -> None:
        """Replaces a record, unless it was removed."""
        with self._locked():
            next_number, records = self._load()
            self._save(next_number, [record if each.id == record.id else each for each in records])

    def remove(self, fault_id: str) -> bool:
        """Removes a record; returns whether it was there."""
        with self._locked():
            next_number, records = self._load()
            left = [each for each in records if each.id != fault_id]
            if len(left) < len(records):
                self._save(next_number, left)
            return len(left) < len(records)

    def clear(self) -> None:
        """Removes all records."""
        self._file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with FileLock(self._folder / LOCK, poll_interval=_POLL_S):
            yield

    def _load(self) -> tuple[int, list[FaultRecord]]:
        try:
            document = read_json(self._file)
            records = [FaultRecord(**{**each, "units": tuple(each["units"])}) for each in document["faults"]]
            return int(document["next"]), records
        except FileNotFoundError:
            return 1, []
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise LabError(f"{self._file}: damaged ({error}); run `lab down` to clean up, then `lab up`") from error

    def _save(self, next_number: int, records: Sequence[FaultRecord]) -> None:
        scratch = self._file.with_suffix(".new")
        scratch.write_text(json.dumps({"next": next_number, "faults": [asdict(each) for each in records]}, indent=1))
        scratch.replace(self._file)
