"""The blast radii of faults over the rounds in runs of the same time: figures with n and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from lab.history import UNSENT
from lab.measure import single_run_intervals
from lab.measure.hit_requests import SLO, Ending, blast
from lab.runs.events import faults_in
from lab.runs.folder import RunFolder

if TYPE_CHECKING:
    from lab.history import Record
    from lab.measure.hit_requests import Blast, Fault
    from lab.measure.single_run_intervals import Figure


@dataclass(frozen=True, slots=True)
class Spread:
    """One number a round, one round or more; infinite where it did not come."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """The median and range of the values that are there; None without values."""
        there = tuple(value for value in values if value is not None)
        return cls(there) if there else None

    @property
    def median(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def least(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def greatest(self) -> float:
        """The greatest value."""
        return max(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """The blast radius of a fault on a topology, over all rounds in which it is known.

    Attributes:
        rounds: number of rounds in which it is known.
        unknown: for each other round, why it is unknown.
        callers: for each round, the number of callers that were hit, of ``of_callers``; likewise for tenants.
        named: the callers that were hit in any round.
        only_slow: for each round, whether all hits were right answers that came late, as on a busy machine.
        requests: share of requests hit while it lasted, with interval, see :mod:`lab.measure.single_run_intervals`.
        failed: share of requests without an answer while it lasted; ``degraded`` by another version or the default
            answer, ``slow`` answered rightly, too late.
        endings: for each round with hits, how they ended.
        detect: seconds from injection until hits ended; None without hits.
        noticed: seconds until the control plane dropped the dead part; None if it did not, or was not watched.
        heal: seconds from the start of the healing until the last hit; None without hits.
        budget: error budget spent, as a multiple of what the SLO allows over the same requests.
    """

    fault: str
    topology: str
    rounds: int
    unknown: tuple[str, ...]
    callers: Spread | None = None
    of_callers: int = 0
    named: tuple[str, ...] = ()
    only_slow: tuple[bool, ...] = ()
    tenants: Spread | None = None
    of_tenants: int = 0
    requests: Figure | None = None
    failed: float = math.nan
    degraded: float = math.nan
    slow: float = math.nan
    endings: tuple[Ending, ...] = ()
    detect: Spread | None = None
    noticed: Spread | None = None
    heal: Spread | None = None
    budget: float = math.nan


def radius(topology: str, rounds: Sequence[Blast]) -> Radius:
    """Puts the rounds of one fault together.

    Raises:
        ValueError: no rounds, or of several faults.
    """
    names = {each.fault.name for each in rounds}
    if len(names) != 1:
        raise ValueError(f"rounds of {len(names)} faults: {', '.join(sorted(names)) or 'none'}")
    known = [each for each in rounds if not each.unknown]
    reasons = tuple(each.unknown for each in rounds if each.unknown)
    if not known:
        return Radius(fault=names.pop(), topology=topology, rounds=0, unknown=reasons)
    hits = np.array([hit for each in known for hit in each.hits], dtype=np.bool_)

    def share(count: Callable[[Blast], int]) -> float:
        return sum(map(count, known)) / len(hits)

    window = sum(each.window for each in known)
    return Radius(
        fault=names.pop(),
        topology=topology,
        rounds=len(known),
        unknown=reasons,
        callers=Spread.of(len(each.callers) for each in known),
        of_callers=max(len(each.of_callers) for each in known),
        named=tuple(sorted(frozenset[str]().union(*(each.callers for each in known)))),
        only_slow=tuple(0 < each.slow == sum(each.hits) for each in known),
        tenants=Spread.of(len(each.tenants) for each in known),
        of_tenants=max(len(each.of_tenants) for each in known),
        requests=single_run_intervals.share(hits),
        failed=share(lambda each: each.failed),
        degraded=share(lambda each: each.degraded),
        slow=share(lambda each: each.slow),
        endings=tuple(each.ending for each in known if each.ending is not None),
        detect=Spread.of(each.detect_s for each in known),
        noticed=Spread.of(each.noticed_s for each in known),
        heal=Spread.of(each.heal_s for each in known),
        budget=sum(each.window_failed for each in known) / (window * (1 - SLO)),
    )


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
