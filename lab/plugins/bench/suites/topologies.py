"""What each topology adds over a direct call, by payload size and rate, and how topologies compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lab.measure.compare import Interval, added_ratio, median_difference, median_ratio, typical
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_lines
from lab.plugins.bench.harness.interleaved import DOUBTFUL, Rounds
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.topology_rounds import (
    AGAIN,
    DIRECT,
    LOAD_POINTS,
    STATIC,
    measured_topologies,
)
from lab.report.palette import topology_style
from lab.report.scales import payloads
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.variant import LoadPoint
    from lab.report.chart import Chart

MESH, GATEWAY, PROXYLESS = "mesh", "gateway", "proxyless"
MESH_BOUND, MESH_UP_TO_BYTES = 1.3, 500_000
PROXYLESS_BOUND, PROXYLESS_AT_BYTES = 0.15, 400


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Measures ``direct`` twice, a bare static Envoy, and every topology, once a round at every load point."""
    measured = measured_topologies(environment, rounds, topologies)
    return measured.result(
        _claims(measured),
        notes=_notes(measured, rounds),
        tables=[_table(measured), _added_table(measured)],
        charts=[_chart(measured, rounds)],
    )


def _claims(measured: Rounds) -> Iterator[Claim]:
    if measured.has(MESH):
        small = [point for point in measured.points if point.payload_bytes <= MESH_UP_TO_BYTES]
        yield from (_added(measured, MESH, STATIC, point, MESH_BOUND) for point in small)
    if measured.has(MESH, PROXYLESS):
        at = [point for point in measured.points if point.payload_bytes == PROXYLESS_AT_BYTES]
        yield from (_added(measured, PROXYLESS, MESH, point, PROXYLESS_BOUND) for point in at)
    if measured.has(MESH, GATEWAY):
        for point in measured.points:
            yield Claim(
                f"{MESH} / {GATEWAY}, p50, {point}",
                median_ratio(measured.p50_ms[MESH, point], measured.p50_ms[GATEWAY, point]),
                at_most=1.0,
                doubts=measured.doubts(point, MESH, GATEWAY),
            )


def _added(measured: Rounds, variant: str, yardstick: str, point: LoadPoint, bound: float) -> Claim:
    return Claim(
        f"({variant} − {DIRECT}) / ({yardstick} − {DIRECT}), p50, {point}",
        added_ratio(*(measured.p50_ms[each, point] for each in (variant, yardstick, DIRECT))),
        at_most=bound,
        doubts=measured.doubts(point, variant, yardstick, DIRECT),
    )


def _table(measured: Rounds) -> ResultTable:
    def p50_ms(variant: str, point: LoadPoint) -> float:
        return typical(measured.p50_ms[variant, point])

    rows = [([variant], partial(p50_ms, variant)) for variant in measured.variants]
    return measured.table("p50, ms, median over rounds", ["topology"], rows)


def _added_table(measured: Rounds) -> ResultTable:
    def shown(variant: str, point: LoadPoint) -> str:
        return measured.shown(_difference(measured, variant, point), point, variant, DIRECT)

    rows = [([variant], partial(shown, variant)) for variant in measured.variants if variant != DIRECT]
    return measured.table(f"added over {DIRECT}, p50, ms, with 95 % intervals", ["topology"], rows)


def _difference(measured: Rounds, variant: str, point: LoadPoint) -> Interval:
    return median_difference(measured.p50_ms[variant, point], measured.p50_ms[DIRECT, point])


def _chart(measured: Rounds, rounds: int) -> Chart:
    sizes = sorted({point.payload_bytes for point in measured.points})
    added = {
        variant: [(each, _difference(measured, variant, measured.fastest_at(each))) for each in sizes]
        for variant in measured.variants
        if variant not in (DIRECT, AGAIN)
    }
    return chart_of_lines(
        "what each path adds over a direct call",
        payloads(sizes),
        "added p50, ms",
        added,
        styles={variant: topology_style(variant) for variant in added},
        name="added",
        note=f"Medians over n = {rounds} rounds, with 95 % intervals; at the highest rate of each size: "
        + "; ".join(str(measured.fastest_at(each)) for each in sizes)
        + ".",
    )


def _notes(measured: Rounds, rounds: int) -> Iterator[str]:
    sizes = ", ".join(f"{point.requests} at {point}" for point in measured.points)
    yield f"n = {rounds} rounds; requests of a variant in each: {sizes}; random order in every round"
    yield f"latency counts from the intended time; {AGAIN!r} is the A/A control; history in {measured.folder}"
    yield DOUBTFUL
    if repeated := measured.repeated():
        yield f"{repeated} trials were repeated because the driver was late"


BENCH = Bench(
    name="topologies",
    question="What does each topology add over a direct call, by payload size and rate?",
    run=run,
    options=(replace(TOPOLOGIES_OPTION, choices=lambda: (*TOPOLOGIES, STATIC)),),
    controls=len(LOAD_POINTS),
)
