"""Blast radii of the faults that fell into runs which were driven at the same time, from their folders alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.history import UNSENT, read_parquet
from lab.measure.blast_radius import blast
from lab.measure.blast_rounds import radius
from lab.runs.events import faults_of, read_marks
from lab.runs.folder import HISTORY, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.history import Record
    from lab.measure.blast_radius import Blast, Fault
    from lab.measure.blast_rounds import Radius


@dataclass(frozen=True, slots=True)
class Scene:
    """Runs at the same time, and what was done to units meanwhile.

    Attributes:
        records: by topology, of all callers.
        callers: by topology, those that were to send.
        faults: one after the other.
    """

    records: dict[str, list[Record]]
    callers: dict[str, list[str]]
    faults: Sequence[Fault]

    def radii(self, faults: Sequence[Fault] = ()) -> list[Radius]:
        """Of each fault and topology, faults of one name put together.

        Args:
            faults: instead of the scene's own, e.g. with other names.
        """
        rounds: dict[tuple[str, str], list[Blast]] = {}
        for fault in faults or self.faults:
            for topology, records in self.records.items():
                rounds.setdefault((fault.name, topology), []).append(blast(records, fault, self.callers[topology]))
        return [radius(topology, of) for (_, topology), of in rounds.items()]


def scene_of(folders: Sequence[Path]) -> Scene:
    """Reads the folders of runs at the same time.

    Raises:
        RunError: something is missing or cannot be read.
    """
    records: dict[str, list[Record]] = {}
    callers: dict[str, list[str]] = {}
    for folder in folders:
        plan = plan_of(folder)
        records.setdefault(plan.topology, []).extend(read_parquet(folder / HISTORY))
        callers.setdefault(plan.topology, []).append(plan.caller)
    everything = [record for of in records.values() for record in of]
    if not everything:
        return Scene(records, callers, ())
    stopped = (record.intended_ns for record in everything if record.status == UNSENT)
    faults = faults_of(
        read_marks(folders[0]),
        from_ns=min(record.intended_ns for record in everything),
        until_ns=min(stopped, default=max(record.intended_ns for record in everything)),
    )
    return Scene(records, callers, faults)
