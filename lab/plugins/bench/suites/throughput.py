"""How many requests each topology carries, and what a request costs each part of it in processor time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab.measure.compare import median
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_medians
from lab.plugins.bench.harness.costs import IN_FLIGHT, measure
from lab.plugins.bench.harness.result import BenchResult, ResultTable
from lab.plugins.bench.harness.variant import CALLER, Variant
from lab.report.palette import topology_style

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment


SECONDS = 1.0
PAYLOAD_BYTES = 400
DIRECT, AGAIN = "direct", "direct again"


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Keeps every topology busy once a round, and ``direct`` twice."""
    endpoints = environment.state.plan.clients[CALLER]
    compared = dict.fromkeys((DIRECT, *(topologies or environment.topologies)))
    variants = [Variant(AGAIN, DIRECT, endpoints), *(Variant(each, each, endpoints) for each in compared)]
    found = measure(environment, variants, [PAYLOAD_BYTES], rounds, seconds=SECONDS)
    rps = {variant.name: found.rps[variant.name, PAYLOAD_BYTES] for variant in variants}
    names = [variant.name for variant in variants]
    return BenchResult(
        unit="rps",
        samples=rps,
        claims=[],
        controls=[control(f"{AGAIN} − {DIRECT}, requests per second", rps[DIRECT], rps[AGAIN])],
        tables=[_table(names, rps), found.table()],
        charts=[
            chart_of_medians(
                "requests per second that each topology carries",
                "requests per second",
                rps,
                styles={name: topology_style(name) for name in names},
            ),
            found.chart(PAYLOAD_BYTES),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s a variant, closed loop, {IN_FLIGHT} in flight, {PAYLOAD_BYTES} B",
            "caller, topology and models share this machine's cores; the caller uses most of them",
            "processor time is of whole processes, so it includes work besides requests",
            f"each answer was judged; history in {found.folder}",
        ],
    )


def _table(names: Sequence[str], rps: Mapping[str, Sequence[float]]) -> ResultTable:
    return ResultTable(
        "requests per second, median over rounds, with 95 % intervals",
        ("topology", "rps"),
        [(name, in_its_interval(median(rps[name]))) for name in names],
        numbers=("rps",),
    )


BENCH = Bench(
    name="throughput",
    question="How many requests does each topology carry, and what does one cost in processor time?",
    run=run,
    options=(TOPOLOGIES_OPTION,),
    controls=1,
)
