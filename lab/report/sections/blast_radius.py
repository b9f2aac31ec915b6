"""The section of blast radii: from a bench, or from parallel runs during which faults were injected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.report.blast_radius import EXPLAINED, KNOWN, doubts_of, heat_of, table_of
from lab.report.heat import HeatMap
from lab.runs.blast_radius import parallel_runs
from lab.runs.parallel import TOGETHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.measure.findings import ResultTable
    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

BENCH = "blast-radius"
"""The bench whose table and chart this section shows."""


@dataclass(frozen=True, slots=True)
class BlastFault:
    """The rows of one fault.

    Attributes:
        known: when the control plane noticed it.
        rows: each topology with its cells.
    """

    name: str
    known: str
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class BlastView:
    """One table and one heat map.

    Attributes:
        origin: where the figures are from.
        notes: what a reader needs to interpret them.
    """

    table: ResultTable
    chart: HeatMap
    origin: str
    notes: Sequence[str]

    @property
    def columns(self) -> Sequence[str]:
        """Headings of the cells, without those of the fault, the topology, and the control plane's knowledge."""
        return [name for name in self.table.columns[2:] if name != KNOWN]

    @property
    def faults(self) -> Sequence[BlastFault]:
        """Rows by fault."""
        known = list(self.table.columns).index(KNOWN)
        by_fault: dict[str, list[list[str]]] = {}
        for row in self.table.written():
            by_fault.setdefault(row[0], []).append(row)
        return [
            BlastFault(name, rows[0][known], [(row[1], [*row[2:known], *row[known + 1 :]]) for row in rows])
            for name, rows in by_fault.items()
        ]


def blasts(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> list[BlastView]:
    """All blast radii in these runs and benches.

    Raises:
        RunError: a run cannot be read.
    """
    views = [
        BlastView(bench.tables[0], chart, bench.origin, EXPLAINED)
        for bench in benches
        if bench.name == BENCH and bench.tables
        for chart in bench.charts
        if isinstance(chart, HeatMap)
    ]
    return [*views, *_of_runs(runs)]


def _of_runs(runs: Sequence[ReportedRun]) -> Iterator[BlastView]:
    groups: dict[Path, list[ReportedRun]] = {}
    for run in runs:
        if (run.result.folder.parent / TOGETHER).exists():
            groups.setdefault(run.result.folder.parent, []).append(run)
    for group in groups.values():
        radii = parallel_runs([run.result.folder for run in group]).radii()
        if radii:
            notes = [*doubts_of(radii), *EXPLAINED]
            yield BlastView(table_of(radii), heat_of(radii), _origin(group), notes)


def _origin(group: Sequence[ReportedRun]) -> str:
    """The folder of parallel runs, the number of requests sent, and the machine."""
    folder = group[0].result.folder.parent
    sent = sum(run.sent for run in group)
    cards = dict.fromkeys(run.card for run in group if run.card)
    return ", ".join([f"{len(group)} runs, {folder.parent.name}/{folder.name}", f"n = {sent:,}", *cards])
