"""How much each topology carries, and what a request costs each part of it in processor time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.bench.harness.charts import chart_of_medians
from lab.bench.harness.costs import IN_FLIGHT, measure
from lab.bench.harness.result import BenchResult, ResultTable
from lab.bench.harness.variant import CALLER, Arm
from lab.measure.compare import median
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.report.palette import topology_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.bench.harness.environment import Setting

NAME = "throughput"

SECONDS = 1.0
PAYLOAD_BYTES = 400
DIRECT, AGAIN = "direct", "direct again"


def run(setting: Setting, rounds: int) -> BenchResult:
    """Keeps every topology of the lab busy once a round, and ``direct`` twice."""
    endpoints = setting.state.plan.clients[CALLER]
    arms = [Arm(AGAIN, DIRECT, endpoints), *(Arm(each, each, endpoints) for each in setting.state.topologies)]
    found = measure(setting, arms, [PAYLOAD_BYTES], rounds, seconds=SECONDS)
    rps = {arm.name: found.rps[arm.name, PAYLOAD_BYTES] for arm in arms}
    names = [arm.name for arm in arms]
    return BenchResult(
        name=NAME,
        unit="rps",
        arms=rps,
        claims=[],
        controls=[control(f"{AGAIN} − {DIRECT}, requests per second", rps[DIRECT], rps[AGAIN])],
        tables=[_table(names, rps), found.table()],
        charts=[
            chart_of_medians(NAME, "requests per second", rps, styles={name: topology_style(name) for name in names}),
            found.chart(PAYLOAD_BYTES),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s an arm, closed loop, {IN_FLIGHT} in flight, {PAYLOAD_BYTES} B",
            "all share this machine's cores, the caller above all: a topology carries what it leaves of them",
            "processor time is of whole processes, so of what they do beside requests, too",
            f"each answer was judged; history in {found.folder}",
        ],
    )


def _table(names: Sequence[str], rps: Mapping[str, Sequence[float]]) -> ResultTable:
    return ResultTable(
        title="requests per second, median over rounds, with 95 % intervals",
        columns=("topology", "rps"),
        rows=[(name, in_its_interval(median(rps[name], seed=0))) for name in names],
        numbers=("rps",),
    )
