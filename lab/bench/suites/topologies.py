"""What each way from caller to model adds over a direct call, by size and rate, and how the ways compare."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from lab.bench.harness.charts import chart_of_lines
from lab.bench.harness.h2load import NOT_MEASURED
from lab.bench.harness.result import BenchResult, Claim, ResultTable
from lab.bench.harness.topology_rounds import AGAIN, DIRECT, DOUBTFUL, SECOND_OPINION_EVERY, STATIC, measured_ways
from lab.measure.compare import added_ratio, median_difference, median_ratio
from lab.measure.pace import pace_of
from lab.report.palette import topology_style
from lab.report.scales import payloads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.topology_rounds import Ways
    from lab.bench.harness.variant import Cell
    from lab.report.chart import Chart

NAME = "topologies"

MESH, GATEWAY, PROXYLESS = "mesh", "gateway", "proxyless"
MESH_BOUND, MESH_UP_TO_BYTES = 1.3, 500_000
PROXYLESS_BOUND, PROXYLESS_AT_BYTES = 0.15, 400


def run(setting: Setting, rounds: int) -> BenchResult:
    """Measures ``direct`` twice, a bare static Envoy, and every topology of the lab, once a round in every cell."""
    ways = measured_ways(setting, rounds)
    named = {f"{arm}, {cell}": (arm, cell) for cell in ways.cells for arm in ways.arms}
    tables = [_table(ways), _added_table(ways)]
    return BenchResult(
        name=NAME,
        unit="ms (p50)",
        arms={name: ways.p50_ms(*key) for name, key in named.items()},
        claims=list(_claims(ways)),
        notes=list(_notes(ways, rounds)),
        controls=ways.controls,
        paces={name: pace_of(ways.rounds.paces[key]) for name, key in named.items()},
        tables=[*tables, _second_opinion(ways)] if ways.h2load else tables,
        charts=[_chart(ways, rounds)],
    )


def _claims(ways: Ways) -> Iterator[Claim]:
    if ways.has(MESH):
        small = [cell for cell in ways.cells if cell.payload_bytes <= MESH_UP_TO_BYTES]
        yield from (_added(ways, MESH, STATIC, cell, MESH_BOUND) for cell in small)
    if ways.has(MESH, PROXYLESS):
        at = [cell for cell in ways.cells if cell.payload_bytes == PROXYLESS_AT_BYTES]
        yield from (_added(ways, PROXYLESS, MESH, cell, PROXYLESS_BOUND) for cell in at)
    if ways.has(MESH, GATEWAY):
        for cell in ways.cells:
            yield Claim(
                text=f"{MESH} / {GATEWAY}, p50, {cell}",
                figure=median_ratio(ways.p50_ms(MESH, cell), ways.p50_ms(GATEWAY, cell), seed=0),
                at_most=1.0,
                doubts=ways.doubts(cell, MESH, GATEWAY),
            )


def _added(ways: Ways, arm: str, yardstick: str, cell: Cell, bound: float) -> Claim:
    return Claim(
        text=f"({arm} − {DIRECT}) / ({yardstick} − {DIRECT}), p50, {cell}",
        figure=added_ratio(*(ways.p50_ms(each, cell) for each in (arm, yardstick, DIRECT)), seed=0),
        at_most=bound,
        doubts=ways.doubts(cell, arm, yardstick, DIRECT),
    )


def _table(ways: Ways) -> ResultTable:
    columns = [str(cell) for cell in ways.cells]
    rows: list[list[float | str]] = [
        [arm, *(statistics.median(ways.p50_ms(arm, cell)) for cell in ways.cells)] for arm in ways.arms
    ]
    return ResultTable(title="p50, ms, median over rounds", columns=("topology", *columns), rows=rows, numbers=columns)


def _added_table(ways: Ways) -> ResultTable:
    columns = [str(cell) for cell in ways.cells]
    rows = []
    for arm in ways.arms:
        if arm != DIRECT:
            figures = [
                median_difference(ways.p50_ms(arm, cell), ways.p50_ms(DIRECT, cell), seed=0) for cell in ways.cells
            ]
            shown = (ways.shown(figure, cell, arm, DIRECT) for figure, cell in zip(figures, ways.cells, strict=True))
            rows.append([arm, *shown])
    title = f"added over {DIRECT}, p50, ms, with 95 % intervals"
    return ResultTable(title=title, columns=("topology", *columns), rows=rows, numbers=columns)


def _second_opinion(ways: Ways) -> ResultTable:
    assert ways.h2load is not None  # noqa: S101 (for the type checker: asked before)
    rows: list[list[float | str]] = []
    for (path, payload_bytes), values in sorted(ways.h2load.p50_ms.items(), key=lambda item: item[0][1]):
        cell = ways.at(payload_bytes)
        rows.append([path, str(cell), statistics.median(ways.p50_ms(path, cell)), statistics.median(values)])
    columns = ("path", "at", "the lab's driver", "h2load")
    return ResultTable(title="a second opinion: p50, ms", columns=columns, rows=rows, numbers=columns[2:])


def _chart(ways: Ways, rounds: int) -> Chart:
    sizes = sorted({cell.payload_bytes for cell in ways.cells})
    added = {
        arm: [
            (
                payload_bytes,
                median_difference(
                    ways.p50_ms(arm, ways.at(payload_bytes)), ways.p50_ms(DIRECT, ways.at(payload_bytes)), seed=0
                ),
            )
            for payload_bytes in sizes
        ]
        for arm in ways.arms
        if arm not in (DIRECT, AGAIN)
    }
    return chart_of_lines(
        "what each way adds over a direct call",
        payloads(sizes),
        "added p50, ms",
        added,
        styles={arm: topology_style(arm) for arm in added},
        name="added",
        note=f"Medians over n = {rounds} rounds, with 95 % intervals; at the highest rate of each size: "
        + ", ".join(str(ways.at(each)) for each in sizes)
        + ".",
    )


def _notes(ways: Ways, rounds: int) -> Iterator[str]:
    sizes = ", ".join(f"{cell.requests} at {cell}" for cell in ways.cells)
    yield f"n = {rounds} rounds; requests of an arm in one: {sizes}; order drawn anew each round"
    yield f"latency counts from the intended time; {AGAIN!r} is the A/A control; history in {ways.rounds.folder}"
    yield DOUBTFUL
    if repeated := ways.rounds.repeated():
        yield f"{repeated} turns were made again because the driver was late"
    if ways.h2load is None:
        yield NOT_MEASURED
        return
    yield (
        f"h2load: the same bytes at the same rate, over one connection, in one of {SECOND_OPINION_EVERY} rounds; it "
        f"counts from the sending and does not parse the answer; for {DIRECT} and {GATEWAY} it knows one replica only"
    )
