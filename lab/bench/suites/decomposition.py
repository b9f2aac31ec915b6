"""Where the milliseconds go: each cause by a pair of ways that differ in nothing else, by size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.bench.harness.result import BenchResult, Claim, ResultTable
from lab.bench.harness.secured import IN_PLAINTEXT, SECURED, measured_pair
from lab.bench.harness.topology_rounds import DIRECT, DOUBTFUL, STATIC, measured_ways
from lab.measure.compare import median_difference, median_ratio
from lab.measure.pace import pace_of
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of
from lab.report.scales import linear, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.topology_rounds import Ways
    from lab.bench.harness.variant import Cell
    from lab.measure.compare import Interval

NAME = "decomposition"


@dataclass(frozen=True, slots=True)
class Part:
    """One cause, and the pair that isolates it.

    Attributes:
        name: as charts have it.
        more: the arm that pays for it.
        less: the arm that does not.
        differs: what of the two differs.
    """

    name: str
    more: str
    less: str
    differs: str

    def figure(self, ways: Ways, cell: Cell) -> Interval:
        """What it takes, ms."""
        return median_difference(ways.p50_ms(self.more, cell), ways.p50_ms(self.less, cell), seed=0)


PARTS = (
    Part("hop", STATIC, DIRECT, "an Envoy with one static cluster stands between caller and model"),
    Part(
        "sidecar's own work",
        "mesh",
        STATIC,
        "leases, the guarded header, clusters on demand, the log",
    ),
    Part("parse, re-serialise", "gateway", "gateway-passthrough", "the same gateway passes bytes on unparsed"),
    Part("resolve", "mesh-unleased", "mesh", "the resolver is asked on every call"),
    Part("central, not local", "gateway-header", "mesh", "one Envoy for all callers, not one beside each"),
)
MTLS = Part("mTLS", SECURED, IN_PLAINTEXT, "two small labs of one mesh each; every connection but to the Envoy is mTLS")

MTLS_BOUND, MTLS_AT_BYTES = 1.15, 27_000


def run(setting: Setting, rounds: int) -> BenchResult:
    """Looks at the rounds of ``topologies``, measured if they have not been; and at mTLS, in rounds of its own."""
    ways, pair = measured_ways(setting, rounds), measured_pair(setting, rounds)
    parts = [(part, ways) for part in PARTS if ways.has(part.more, part.less)]
    parts.append((MTLS, pair))
    arms, paces = {}, {}
    for part, seen in parts:
        for cell in seen.cells:
            one, other = seen.p50_ms(part.more, cell), seen.p50_ms(part.less, cell)
            arms[f"{part.name}, {cell}"] = [more - less for more, less in zip(one, other, strict=True)]
            for arm in (part.more, part.less):
                paces[f"{arm}, {cell}"] = pace_of(seen.rounds.paces[arm, cell])
    return BenchResult(
        name=NAME,
        unit="ms (difference of p50)",
        arms=arms,
        claims=[_claim(pair)],
        notes=list(_notes(ways, parts, rounds)),
        controls=[*ways.controls, *pair.controls],
        paces=paces,
        tables=[_table(ways, parts)],
        charts=list(_charts(ways, parts, rounds)),
    )


def _claim(pair: Ways) -> Claim:
    cell = pair.at(MTLS_AT_BYTES)
    return Claim(
        text=f"{SECURED} / {IN_PLAINTEXT}, p50, {cell}",
        figure=median_ratio(pair.p50_ms(SECURED, cell), pair.p50_ms(IN_PLAINTEXT, cell), seed=0),
        at_most=MTLS_BOUND,
        doubts=pair.doubts(cell, SECURED, IN_PLAINTEXT),
    )


def _table(ways: Ways, parts: Sequence[tuple[Part, Ways]]) -> ResultTable:
    columns = [str(cell) for cell in ways.cells]
    rows = [
        [
            part.name,
            f"{part.more} − {part.less}",
            *(
                seen.shown(part.figure(seen, cell), cell, part.more, part.less) if cell in seen.cells else ""
                for cell in ways.cells
            ),
        ]
        for part, seen in parts
    ]
    title = "difference of p50, ms, with 95 % intervals"
    return ResultTable(title=title, columns=("part", "pair", *columns), rows=rows, numbers=columns)


def _charts(ways: Ways, parts: Sequence[tuple[Part, Ways]], rounds: int) -> Iterator[BarChart]:
    """One a size: at megabytes the parts are so much longer that one axis for all would hide the others."""
    for payload_bytes in sorted({cell.payload_bytes for cell in ways.cells}):
        cell = ways.at(payload_bytes)
        figures = [(part.name, part.figure(seen, cell)) for part, seen in parts]
        bars = [
            Bar(name, style_of(number), figure.estimate, figure.low, figure.high)
            for number, (name, figure) in enumerate(figures, 1)
        ]
        most, least = max(figure.high for _, figure in figures), min(figure.low for _, figure in figures)
        yield BarChart(
            f"where the milliseconds go, {cell}",
            linear("ms of the p50", most, low=least),
            [BarGroup("", bars)],
            name=f"parts-{size(payload_bytes)}",
            note=f"Medians over n = {rounds} rounds, with 95 % intervals.",
        )


def _notes(ways: Ways, parts: Sequence[tuple[Part, Ways]], rounds: int) -> Iterator[str]:
    yield f"n = {rounds} rounds, those of the bench topologies; as many for mTLS"
    yield from (f"{part.name} = {part.more} − {part.less}: {part.differs}" for part, _ in parts)
    for part in PARTS:
        if missing := " and ".join(arm for arm in (part.more, part.less) if not ways.has(arm)):
            yield f"{part.name}: not measured: this lab has no {missing}"
    yield DOUBTFUL
