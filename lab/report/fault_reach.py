"""Blast radius as a table and a heat map: from a bench, or from parallel runs during which faults were injected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.measure.findings import ResultTable
from lab.measure.hit_requests import NOTICED_MS, SLO, SLOWER, Ending
from lab.report.digits import in_two_digits
from lab.report.heat import HeatMap, Tile
from lab.report.sections.timeline import panels
from lab.runs.fault_rounds import Radius, Spread, parallel_runs
from lab.runs.folder import TOGETHER

if TYPE_CHECKING:
    from lab.report.bench import ReportedBench
    from lab.report.chart import Chart
    from lab.report.run import ReportedRun

TITLE = "Blast radius"
BENCH = "blast-radius"
"""The bench whose table and chart a report shows in their own section."""

UNKNOWN, NONE = "unknown", "–"

EXPLAINED = (
    (
        "a request is hit if it fails, is answered by another version than the first choice, or takes longer than "
        f"{SLOWER:g} × the steady p99 of its caller and {NOTICED_MS:g} ms, more often than by chance; "
        "shares are of requests while the fault lasted, with 95 % intervals"
    ),
    (
        "clear: from the injection until no request is hit any more (avoided), or until requests are refused at once "
        "with a clear status (refused), while the fault lasts; known: until the control plane stops using the dead unit"
    ),
    (
        "healed: from the start of healing, restarts included, until the last request that was hit was due; times are "
        "no finer than the gaps between requests"
    ),
    f"budget: failed requests, over those that an SLO of {SLO:.1%} allows from the injection until the next fault",
)
"""Notes that a reader needs to interpret the figures."""

KNOWN = "known after"
"""Heading of the column whose value is the same for all topologies of a fault."""

_COLUMNS = (
    "fault",
    "topology",
    "callers hit",
    "tenants hit",
    "requests hit",
    "how",
    "clear after",
    KNOWN,
    "healed after",
    "budget spent",
    "n",
)
_SMALL = 0.1
_MOST_NAMED = 6


def table_of(radii: Sequence[Radius]) -> ResultTable:
    """One row for each fault and topology."""
    title = "which requests each fault hits, while all callers send over all topologies at once"
    return ResultTable(title=title, columns=_COLUMNS, rows=[_row(each) for each in radii], numbers=_COLUMNS[2:])


def heat_of(radii: Sequence[Radius], *, is_on_path: Callable[[str, str], bool] = lambda *_: True) -> HeatMap:
    """One tile for each fault and topology: the share of requests that were hit.

    Args:
        radii: not every fault need have been injected for every topology.
        is_on_path: ``(fault, topology)`` → whether the topology's requests pass through the units that the fault harms.
    """
    faults = list(dict.fromkeys(each.fault for each in radii))
    topologies = list(dict.fromkeys(each.topology for each in radii))
    by_place = {(each.fault, each.topology): each for each in radii}

    def tile(fault: str, topology: str) -> Tile:
        found = by_place.get((fault, topology))
        return Tile(None, NONE, "not there") if found is None else _tile(found, is_on_path(fault, topology))

    rounds = max((each.rounds for each in radii), default=0)
    least = min((each.requests.count for each in radii if each.requests), default=0)
    widest = max((each.requests.high - each.requests.low for each in radii if each.requests), default=0.0)
    return HeatMap(
        f"{TITLE}: share of requests hit while the fault lasts",
        topologies,
        faults,
        [[tile(fault, topology) for topology in topologies] for fault in faults],
        name="requests-hit",
        note=f"n ≥ {least:,} requests in {rounds} round{'s' * (rounds != 1)} a tile; 95 % intervals, in the table, are "
        f"at most {100 * widest:.0f} points wide. Dashed: unknown, or not there.",
    )


def doubts_of(radii: Sequence[Radius]) -> list[str]:
    """For each fault and topology with unknown rounds: how many, and why."""
    return [
        f"{each.fault}, {each.topology}: unknown in {len(each.unknown)} of {each.rounds + len(each.unknown)} rounds: "
        f"{'; '.join(dict.fromkeys(each.unknown))}"
        for each in radii
        if each.unknown
    ]


def percent(share: float) -> str:
    """E.g. ``63 %``, ``4.2 %`` or ``0 %``."""
    return f"{100 * share:.1f} %" if 0 < share < _SMALL or 1 - _SMALL < share < 1 else f"{100 * share:.0f} %"


def _tile(found: Radius, on_path: bool) -> Tile:  # noqa: FBT001 (private, and passed by name's sake once)
    if found.requests is None or found.callers is None:
        return Tile(None, "?", UNKNOWN)
    hit = found.requests.estimate > 0
    more = f"{_counted(found.callers, found.of_callers)} callers" if hit or on_path else "not in the path"
    return Tile(found.requests.estimate, percent(found.requests.estimate), more)


def _row(found: Radius) -> list[str]:
    if found.requests is None or found.callers is None or found.tenants is None:
        return [found.fault, found.topology, *[UNKNOWN] * (len(_COLUMNS) - 2)]
    share = found.requests
    rounds = f"{found.rounds} of {found.rounds + len(found.unknown)}" if found.unknown else f"{found.rounds}"
    return [
        found.fault,
        found.topology,
        _counted(found.callers, found.of_callers),
        _counted(found.tenants, found.of_tenants),
        f"{percent(share.estimate)} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
        _how(found),
        _clear(found),
        _seconds(found.noticed),
        _seconds(found.heal, never="not yet"),
        f"{found.budget:,.0f} ×" if found.budget else "0",
        f"{share.count:,} in {rounds}",
    ]


def _how(found: Radius) -> str:
    """How requests were hit: ``failed``, or, of several, with shares: ``failed 4 %, slow 1.2 %``."""
    shares = {"failed": found.failed, "answered by another": found.degraded, "slow": found.slow}
    there = {name: share for name, share in shares.items() if share}
    if len(there) <= 1:
        return "".join(there) or NONE
    return ", ".join(f"{name} {percent(share)}" for name, share in there.items())


def _clear(found: Radius) -> str:
    endings = list(dict.fromkeys(found.endings))
    if not endings or found.detect is None:
        return NONE
    if endings == [Ending.OPEN]:
        return "never"
    return f"{', '.join(endings)} {_seconds(found.detect, never='never')}"


def _counted(hit: Spread, of: int) -> str:
    """E.g. ``5 of 5``, or ``1 to 2 of 5`` if rounds differ."""
    most = "" if hit.least == hit.greatest else f" to {hit.greatest:g}"
    return f"{hit.least:g}{most} of {of}"


def _seconds(spread: Spread | None, *, never: str = "never") -> str:
    """The median, followed by the least and the greatest in brackets."""
    if spread is None:
        return NONE

    def one(value: float) -> str:
        return never if math.isinf(value) else f"{value:.2f}"

    unit = "" if math.isinf(spread.median) else " s"
    if len(spread.values) == 1:
        return f"{one(spread.median)}{unit}"
    return f"{one(spread.median)}{unit} [{one(spread.least)}, {one(spread.greatest)}]"


@dataclass(frozen=True, slots=True)
class BlastView:
    """One table and one heat map.

    Attributes:
        origin: where the figures are from.
        notes: what a reader needs to interpret them.
        headline: the reach of the worst fault, in words.
        panels: one for each caller and topology; none of a bench.
    """

    table: ResultTable
    chart: HeatMap
    origin: str
    notes: Sequence[str]
    headline: str
    panels: Sequence[Chart] = ()

    @property
    def columns(self) -> Sequence[str]:
        """Headings of the cells, without those of the fault, the topology, and the control plane's knowledge."""
        return [name for name in self.table.columns[2:] if name != KNOWN]

    @property
    def faults(self) -> Mapping[tuple[str, str], Sequence[tuple[str, Sequence[str]]]]:
        """Each fault, with when the control plane noticed it: each topology with its cells."""
        known = list(self.table.columns).index(KNOWN)
        by_fault: dict[str, list[list[str]]] = {}
        for row in self.table.written():
            by_fault.setdefault(row[0], []).append(row)
        return {
            (name, rows[0][known]): [(row[1], [*row[2:known], *row[known + 1 :]]) for row in rows]
            for name, rows in by_fault.items()
        }


def blasts(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> list[BlastView]:
    """All blast radii in these runs and benches.

    Raises:
        RunError: a run cannot be read.
    """
    views = [
        BlastView(bench.tables[0], chart, bench.origin, EXPLAINED, _worst_tile(chart))
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
            yield BlastView(table_of(radii), heat_of(radii), _origin(group), notes, headline_of(radii), panels(group))


def headline_of(radii: Sequence[Radius]) -> str:
    """The reach of the worst of these faults: the share of requests with its interval, callers, and until when."""
    known = [each for each in radii if each.requests is not None and each.callers is not None]
    if not known:
        return f"which callers {radii[0].fault} reached is unknown: {'; '.join(radii[0].unknown[:1])}"
    each = max(known, key=lambda radius: radius.requests.estimate if radius.requests else 0)
    assert each.requests is not None  # noqa: S101 (known, see above)
    assert each.callers is not None  # noqa: S101 (same)
    share = each.requests
    hit = f"{percent(share.estimate)} [{100 * share.low:.0f}, {100 * share.high:.0f}] of requests over {each.topology}"
    healed = ""
    if each.heal and share.estimate:
        late = max(each.heal.values)
        healed = ", and some still now" if math.isinf(late) else f", until {in_two_digits(late)} s after healing began"
    some = 0 < len(each.named) < each.of_callers and len(each.named) <= _MOST_NAMED
    who = f" ({', '.join(each.named)})" if some else ""
    return f"{each.fault}: {_counted(each.callers, each.of_callers)} callers hit{who}, {hit}{healed}"


def _worst_tile(chart: HeatMap) -> str:
    """The same from a bench's chart."""
    tiles = [
        (tile.value, fault, topology, tile)
        for fault, of_fault in zip(chart.rows, chart.tiles, strict=True)
        for topology, tile in zip(chart.columns, of_fault, strict=True)
        if tile.value is not None
    ]
    if not tiles:
        return "which callers the faults reached is unknown"
    _, fault, topology, tile = max(tiles, key=lambda each: each[0])
    of = f"Worst of {len(chart.rows)} faults, " if len(chart.rows) > 1 else ""
    return f"{of}{fault}: {tile.text} of requests over {topology} hit, {tile.more}"


def _origin(group: Sequence[ReportedRun]) -> str:
    """The folder of parallel runs, the number of requests sent, and the machine."""
    folder = group[0].result.folder.parent
    sent = sum(run.sent for run in group)
    cards = dict.fromkeys(run.card for run in group if run.card)
    return ", ".join([f"{len(group)} runs, {folder.parent.name}/{folder.name}", f"n = {sent:,}", *cards])
