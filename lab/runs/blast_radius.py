"""Computes the blast radii of faults from the folders of runs that were driven at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.history import UNSENT
from lab.measure.blast_radius import blast
from lab.measure.blast_rounds import radius
from lab.runs.events import faults_in
from lab.runs.folder import RunFolder

if TYPE_CHECKING:
    from lab.history import Record
    from lab.measure.blast_radius import Blast, Fault
    from lab.measure.blast_rounds import Radius


@dataclass(frozen=True, slots=True)
class ParallelRuns:
    """Runs of the same time, and the faults that they met.

    Attributes:
        records: by topology, of all callers.
        callers: by topology, those that sent.
        faults: in order of time.
    """

    records: dict[str, list[Record]]
    callers: dict[str, list[str]]
    faults: Sequence[Fault]

    def radii(self, faults: Sequence[Fault] = ()) -> list[Radius]:
        """Returns the blast radius of each fault and topology; faults of one name are put together.

        Args:
            faults: to use instead of :attr:`faults`, e.g. with other names.
        """
        rounds: dict[tuple[str, str], list[Blast]] = {}
        for fault in faults or self.faults:
            for topology, records in self.records.items():
                rounds.setdefault((fault.name, topology), []).append(blast(records, fault, self.callers[topology]))
        return [radius(topology, of) for (_, topology), of in rounds.items()]


def parallel_runs(folders: Sequence[Path]) -> ParallelRuns:
    """Reads the folders of runs that were driven at the same time.

    Raises:
        RunError: something is missing or cannot be read.
    """
    records: dict[str, list[Record]] = {}
    callers: dict[str, list[str]] = {}
    for folder in folders:
        run = RunFolder(folder)
        plan = run.plan
        records.setdefault(plan.topology, []).extend(run.history)
        callers.setdefault(plan.topology, []).append(plan.caller)
    everything = [record for of in records.values() for record in of]
    if not everything:
        return ParallelRuns(records, callers, ())
    stopped = (record.intended_ns for record in everything if record.status == UNSENT)
    faults = faults_in(
        RunFolder(folders[0]).events,
        from_ns=min(record.intended_ns for record in everything),
        until_ns=min(stopped, default=max(record.intended_ns for record in everything)),
    )
    return ParallelRuns(records, callers, faults)
