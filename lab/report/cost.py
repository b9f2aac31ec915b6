"""The latency that each topology adds to the shortest one, by payload and rate: what readers ask first.

A bench is the best evidence, since it interleaves topologies in the same minutes. Without one, runs are compared if
they differ only in their topology.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.checkers import Claim, Outcome
from lab.measure import single_run_intervals
from lab.measure.compare import median, median_difference
from lab.measure.findings import written
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.conditions import HARMLESS, conditions, differing, in_words
from lab.report.digits import difference
from lab.report.palette import topology_style
from lab.report.run import ReportedRun, origins
from lab.report.scales import linear
from lab.topologies import TOPOLOGIES, compared_as

if TYPE_CHECKING:
    from lab.report.bench import ReportedBench

QUESTION = "What does the gateway cost me at my payload and rate?"

BENCH = "topologies"
"""The bench whose arms are named ``<topology>, <payload>, <rate> rps``."""

FLOOR, GATEWAY, MESH = compared_as("floor"), compared_as("central"), compared_as("local")
"""The subjects of the question: the two topologies most people choose between, and the latency floor below them."""

BASES = (FLOOR, MESH)
"""What others are compared with: the first of these that was measured."""

_ARM = re.compile(r"(?P<topology>[^,]+), (?P<payload>[\d.]+ (?:B|KB|MB)), (?P<rate>[\d.]+) rps")
_IN_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6}
_PERCENTILES = ("p50", "p99")
_CONTROL = " again"  # ends the names of A/A controls
_USUAL_BYTES = 27_000  # features of a hundred candidates to rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The latency that one topology adds, ms.

    Attributes:
        values: estimate and both ends of the 95 % interval.
        doubts: why the figure is not evidence.
    """

    values: tuple[float, float, float]
    doubts: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The estimate, with its sign."""
        return signed(self.values[0])

    @property
    def amount(self) -> str:
        """The estimate in a sentence that says *adds*."""
        return written(self.values[0]) if self.is_clear else "≈ 0"

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends of the interval, with their signs."""
        return signed(self.values[1]), signed(self.values[2])

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.values[1] <= 0 <= self.values[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One payload and rate.

    Attributes:
        payload: e.g. ``27 KB``.
        rate: e.g. ``500 rps``.
        percentile: of the requests.
        base: latency of the base itself, e.g. ``0.531``.
        count: n.
        added: by topology, of those measured at this payload and rate.
        gateway_over_mesh: what the gateway adds to the mesh, where both are compared with another base; else None.
    """

    payload: str
    rate: str
    percentile: str
    base: str
    count: str
    added: Mapping[str, Added]
    gateway_over_mesh: Added | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one figure that answers the question.

    Attributes:
        topology: that costs ``added`` more than ``over``.
        row: payload and rate.
        bench: that measured it; empty for runs.
    """

    topology: str
    over: str
    added: Added
    row: Row
    bench: str

    @property
    def text(self) -> str:
        """E.g. ``Gateway +1.6 ms [1.0, 2.2] over mesh at 27 KB, 100 rps, p50``; of a bench with its rounds."""
        rest = "" if self.added.is_clear or self.added.doubts else ": no difference shown"
        rounds = f" of {self.row.count} rounds" if self.bench and not self.added.doubts else ""
        where = f"{self.row.payload}, {self.row.rate.partition(',')[0]}, {self.row.percentile}{rounds}"
        return f"{self.topology.capitalize()} {self._figure} over {self.over} at {where}{rest}"

    @property
    def short(self) -> str:
        """E.g. ``+5.6 ms [5.1, 6.0] at 4 MB, 10 rps``, after that of another payload."""
        return f"{self._figure} at {self.row.payload}, {self.row.rate.partition(',')[0]}"

    @property
    def _figure(self) -> str:
        return difference(*self.added.values, unit="ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """One comparison.

    Attributes:
        base: topology that all others are compared with.
        topologies: columns.
        note: what n counts, and where the figures are from.
        bench: that measured it; empty for runs.
    """

    base: str
    topologies: Sequence[str]
    rows: Sequence[Row]
    note: str
    bench: str = ""

    @property
    def percentiles(self) -> Sequence[str]:
        """The percentiles in its rows."""
        return list(dict.fromkeys(row.percentile for row in self.rows))

    @property
    def doubts(self) -> Sequence[str]:
        """Why some of its figures are no evidence."""
        return list(dict.fromkeys(doubt for row in self.rows for each in row.added.values() for doubt in each.doubts))

    @property
    def headlines(self) -> Sequence[Headline]:
        """What the gateway costs over the mesh, else the first column over the base; one for each payload.

        Of several rates it takes one that is not in doubt, if there is one, else the lowest. First come those that are
        not in doubt, by how near they are to the payload of a ranking request.
        """
        if not self.topologies:
            return ()
        found: list[Headline] = []
        for row in (row for row in self.rows if row.percentile == _PERCENTILES[0]):
            asked = next(
                topology for topology in self.topologies if topology in row.added
            )  # the gateway, if it is there
            over, added = (MESH, row.gateway_over_mesh) if row.gateway_over_mesh else (self.base, row.added[asked])
            found.append(Headline(topology=asked, over=over, added=added, row=row, bench=self.bench))
        found.sort(key=lambda each: (bool(each.added.doubts), _far(each.row)))
        best: dict[str, Headline] = {}
        for each in found:
            best.setdefault(each.row.payload, each)
        return list(best.values())

    @property
    def answer(self) -> str:
        """One sentence: what the first column, usually the gateway, adds to the median, and what the mesh adds."""
        if not self.topologies:
            return ""
        asked, *others = self.topologies
        if not _sure(self.rows, asked):
            return f"What the {asked} adds is unknown: all figures below are in doubt (?)."
        parts = [f"the {asked} adds {_range(self.rows, asked)} to the median request"]
        parts += [f"the {topology} {_range(self.rows, topology)}" for topology in others if topology == MESH]
        return f"Over {self.base}, {'; '.join(parts)}."


@dataclass(frozen=True, slots=True)
class Cost:
    """The answer. Without tables and refusals, there was nothing to compare.

    Attributes:
        tables: first those of benches.
        refusals: runs that are not compared, each with the reason.
    """

    tables: Sequence[CostTable]
    refusals: Sequence[str]


def cost(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> Cost:
    """The tables that these runs and benches allow."""
    tables = [table for bench in benches if bench.name == BENCH and (table := of_bench(bench)) is not None]
    of, refusals = of_runs(runs)
    return Cost([*tables, *of], refusals)


def _table(base: str, rows: Sequence[Row], note: str, bench: str = "") -> CostTable:
    topologies = _compared(topology for row in rows for topology in row.added)
    return CostTable(base=base, topologies=topologies, rows=rows, note=note, bench=bench)


def columns() -> list[str]:
    """All topologies, first the two that most people choose between."""
    return list(dict.fromkeys((GATEWAY, MESH, *TOPOLOGIES)))


def _compared(measured: Iterable[str]) -> list[str]:
    """The topologies among what was measured; if there is none, its yardsticks, such as a static Envoy."""
    given = dict.fromkeys(measured)
    return [each for each in columns() if each in given] or [each for each in given if not each.endswith(_CONTROL)]


def charts(found: Cost) -> Iterator[BarChart]:
    """A chart for each payload and rate of runs; benches have charts of their own."""
    for table in found.tables:
        for row in table.rows if len(table.percentiles) > 1 else ():
            if row.percentile != _PERCENTILES[0]:
                continue
            same = [each for each in table.rows if (each.payload, each.rate) == (row.payload, row.rate)]
            groups = [
                BarGroup(
                    each.percentile,
                    [
                        Bar(topology, topology_style(topology), *added.values, added.text)
                        for topology, added in each.added.items()
                    ],
                )
                for each in same
            ]
            finite = [added.values[0] for each in same for added in each.added.values()]
            yield BarChart(
                f"Added over {table.base}, {row.payload} at {row.rate}",
                linear("added, ms", max(finite) * 1.5, low=min(finite) * 1.5),
                groups,
                name=f"cost-{row.payload}-{row.rate}",
                note=table.note,
            )


# -- from a bench ----------------------------------------------------------------------------------------------------


def of_bench(bench: ReportedBench) -> CostTable | None:
    """The table of a bench ``topologies``; None if its arms have other names."""
    cells: dict[tuple[str, str], dict[str, Sequence[float]]] = {}
    for arm, values in bench.rounds.items():
        if found := _ARM.fullmatch(arm):
            cells.setdefault((found["payload"], found["rate"]), {})[found["topology"]] = values
    base = next((base for base in BASES if any(base in topologies for topologies in cells.values())), None)
    if base is None:
        return None
    rows = []
    for payload, rate in sorted(cells, key=lambda cell: (_bytes(cell[0]), float(cell[1]))):
        topologies = cells[payload, rate]
        if base not in topologies:
            continue
        cell = f"{payload}, {rate} rps"
        added = {}
        for topology in _compared(each for each in topologies if each != base):
            figure = median_difference(topologies[topology], topologies[base], seed=0)
            added[topology] = Added(
                values=(figure.estimate, figure.low, figure.high), doubts=_doubts(bench, cell, topology, base)
            )
        over_mesh = None
        if base != MESH and {GATEWAY, MESH} <= set(topologies):
            figure = median_difference(topologies[GATEWAY], topologies[MESH], seed=0)
            over_mesh = Added(
                values=(figure.estimate, figure.low, figure.high), doubts=_doubts(bench, cell, GATEWAY, MESH)
            )
        taken = median(topologies[base], seed=0)
        rows.append(
            Row(
                payload=payload,
                rate=f"{rate} rps",
                percentile="p50",
                base=written(taken.estimate),
                count=f"{taken.rounds}",
                added=added,
                gateway_over_mesh=over_mesh,
            )
        )
    note = f"Medians over n interleaved rounds, with 95 % intervals. {bench.origin}"
    return _table(base, rows, note, bench.name)


def _doubts(bench: ReportedBench, cell: str, *arms: str) -> list[str]:
    late = [
        f"{arm}, {cell}: {bench.paces[name].doubt}"
        for arm in arms
        if (name := f"{arm}, {cell}") in bench.paces and bench.paces[name].doubt
    ]
    controls = [each.doubt for each in bench.controls if f", {cell}," in f"{each.text}," and each.doubt]
    return [*late, *controls]


def _far(row: Row) -> tuple[float, float]:
    """How far a row's payload is from the usual one, in decades, and its rate."""
    found = re.match(r"[\d.]+ (?:B|KB|MB)$", row.payload)
    decades = abs(math.log10(max(_bytes(row.payload), 1) / _USUAL_BYTES)) if found else math.inf
    return round(decades, 3), float(row.rate.split()[0].replace(",", "")) if row.rate[:1].isdigit() else math.inf


def _bytes(payload: str) -> float:
    number, unit = payload.split()
    return float(number) * _IN_BYTES[unit]


# -- from runs -------------------------------------------------------------------------------------------------------


def of_runs(runs: Sequence[ReportedRun]) -> tuple[list[CostTable], list[str]]:
    """Tables of runs that differ only in their topology, and the reasons why others are left out."""
    sent = [run for run in runs if run.figures]
    topologies = {run.plan.topology for run in sent}
    base = next((base for base in BASES if base in topologies), None)
    if len(topologies) < 2:  # noqa: PLR2004 (two are needed to compare)
        return [], []
    if base is None:
        return [], [f"There is no run of {' or '.join(BASES)} to compare the others with: add one."]
    bases = [run for run in sent if run.plan.topology == base]
    compared: dict[int, dict[str, ReportedRun]] = {}
    refusals = []
    for run in (run for run in sent if run.plan.topology != base):
        against = min(bases, key=lambda each: len(_hindrances(run, each)))
        if hindrances := _hindrances(run, against):
            refusals.append(
                f"Run {run.label} is not compared with run {against.label}: they also differ in {in_words(hindrances)}."
            )
        elif run.plan.topology in compared.get(against.number, {}):
            refusals.append(f"Run {run.label} is left out: an earlier run has the same topology and conditions.")
        else:
            compared.setdefault(against.number, {})[run.plan.topology] = run
    rows = [
        _row(against, others, percentile)
        for against in sorted(bases, key=lambda each: (each.plan.payload_bytes, each.result.summary.offered or 0))
        if (others := compared.get(against.number))
        for percentile in _PERCENTILES
    ]
    if not rows:
        return [], refusals
    note = (
        "Consecutive runs share no rounds: a machine that was busier during one of them looks like a cost of its "
        "topology. A bench (lab bench topologies) is better evidence. Intervals are from order statistics, with n "
        "reduced as far as requests of a run depend on each other. "
    )
    used = [run for run in sent if any(run.number == number or run in of.values() for number, of in compared.items())]
    return [_table(base, rows, note + origins(used))], refusals


def _hindrances(one: ReportedRun, other: ReportedRun) -> list[tuple[str, str, str]]:
    found = differing(conditions(one), conditions(other))
    return [each for each in found if each[0] not in HARMLESS]


def _row(base: ReportedRun, others: Mapping[str, ReportedRun], percentile: str) -> Row:
    under = conditions(base)
    counts = sorted({len(run.latencies_ms) for run in (base, *others.values())})
    return Row(
        payload=under["payload"],
        rate=f"{under['rate']}, {under['arrivals']}",
        percentile=percentile,
        base=written(base.figures[percentile].estimate),
        count=" to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))),
        added={topology: _added(others[topology], base, percentile) for topology in _compared(others)},
        gateway_over_mesh=_added(others[GATEWAY], others[MESH], percentile) if {GATEWAY, MESH} <= set(others) else None,
    )


def _added(run: ReportedRun, base: ReportedRun, percentile: str) -> Added:
    return Added(
        values=single_run_intervals.difference(run.figures[percentile], base.figures[percentile]),
        doubts=[doubt for each in (base, run) for doubt in doubts_of(each)],
    )


def doubts_of(run: ReportedRun) -> list[str]:
    """Why a run's latencies are no evidence."""
    claims = run.result.claims
    if doubts := [run.result.doubt(claim) for claim in run.result.asked if claims[claim] is not Outcome.VALID]:
        return [f"run {run.label}: {doubts[0]}"]
    return [] if run.is_timed else [f"run {run.label}: {run.result.doubt(Claim.TIMING)}"]


def _range(rows: Sequence[Row], topology: str) -> str:
    """The least and the most that a topology adds to the p50, and where, without figures in doubt."""
    sure = _sure(rows, topology)
    if not sure:
        return "an unknown amount"
    least, most = (choose(sure, key=lambda row: row.added[topology].values[0]) for choose in (min, max))
    ends = (least,) if least is most else (least, most)
    return " to ".join(f"{row.added[topology].amount} ms ({row.payload}, {row.rate})" for row in ends)


def _sure(rows: Sequence[Row], topology: str) -> list[Row]:
    return [row for row in rows if row.percentile == "p50" and topology in row.added and not row.added[topology].doubts]


def signed(value: float) -> str:
    """A difference with its sign."""
    return written(value) if value < 0 else f"+{written(value)}"
