"""How much each topology carries, and what a request costs each part of it in processor time."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from lab.bench.arm import CALLER, CLUSTER, Arm
from lab.bench.driving import driver
from lab.bench.pictures import chart_of_medians
from lab.bench.result import BenchResult, ResultTable
from lab.bench.setting import cpu_seconds
from lab.history import write_parquet
from lab.measure.compare import interleave, median
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of, topology_style
from lab.report.scales import linear
from lab.runs import folder as run_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.bench.driving import Driver
    from lab.bench.setting import Setting
    from lab.history import Record

NAME = "throughput"

SECONDS = 1.0
IN_FLIGHT = 16
PAYLOAD_BYTES = 400
DIRECT, AGAIN = "direct", "direct again"
_DRIVER = "caller (the driver)"
_PARTS = {"model": "models", "control-plane": "control plane"}
"""Role → its part, where that is not the role itself."""

Costs = dict[tuple[str, str], list[float]]
"""Arm and part → CPU seconds per 1,000 requests, one a round."""


def run(setting: Setting, rounds: int) -> BenchResult:
    """Keeps every topology of the lab busy once a round, and ``direct`` twice."""
    endpoints = setting.state.plan.clients[CALLER]
    arms = [Arm(AGAIN, DIRECT, endpoints), *(Arm(each, each, endpoints) for each in setting.state.topologies)]
    folder = run_folder.folder_of_now(setting.lab.runs)
    run_folder.make(folder)
    rps: dict[str, list[float]] = {arm.name: [] for arm in arms}
    costs: Costs = {}
    records: list[Record] = []
    with driver(setting, folder) as turns:
        parts = _parts(setting, turns)
        for number, order in enumerate([arms, *interleave(arms, rounds, seed=0)]):
            setting.say(f"round {number} of {rounds}: {len(arms)} arms" if number else "warming up")
            for arm in order:
                before = _cpu_by_part(parts)
                turn = turns.keep_busy(
                    arm, payload_bytes=PAYLOAD_BYTES, seconds=SECONDS, in_flight=IN_FLIGHT, seed=number
                )
                after = _cpu_by_part(parts)
                if number:
                    answered = len(turn.records)
                    rps[arm.name].append(answered / turn.took_s)
                    for part in parts:
                        costs.setdefault((arm.name, part), []).append((after[part] - before[part]) / answered * 1e3)
                    records += turn.records
    write_parquet(records, folder / run_folder.HISTORY)
    names = [arm.name for arm in arms]
    return BenchResult(
        name=NAME,
        unit="rps",
        arms=rps,
        claims=[],
        controls=[control(f"{AGAIN} − {DIRECT}, requests per second", rps[DIRECT], rps[AGAIN])],
        tables=[_table(names, rps), _cost_table(names, list(parts), costs)],
        charts=[
            chart_of_medians(NAME, "requests per second", rps, styles={name: topology_style(name) for name in names}),
            _cost_chart(names, list(parts), costs, rounds),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s an arm, closed loop, {IN_FLIGHT} in flight, {PAYLOAD_BYTES} B",
            "all share this machine's cores, the caller above all: a topology carries what it leaves of them",
            "processor time is of whole processes, so of what they do beside requests, too",
            f"each answer was judged; history in {folder}",
        ],
    )


def _parts(setting: Setting, turns: Driver) -> Mapping[str, Sequence[int]]:
    """Part → process ids of what does its work for the caller."""
    parts: dict[str, list[int]] = {_DRIVER: [turns.pid]}
    for unit in setting.state.plan.units:
        elsewhere = unit.role == "model" and unit.cluster != CLUSTER
        others = unit.role in {"sidecar", "resolver"} and unit.pod != CALLER
        if unit.role != "caller" and not elsewhere and not others:
            part = _PARTS.get(unit.role, unit.role)
            parts.setdefault(part, []).append(setting.state.running[unit.name].pid)
    return parts


def _cpu_by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    return {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}


def _table(names: Sequence[str], rps: Mapping[str, Sequence[float]]) -> ResultTable:
    return ResultTable(
        title="requests per second, median over rounds, with 95 % intervals",
        columns=("topology", "rps"),
        rows=[(name, in_its_interval(median(rps[name], seed=0))) for name in names],
        numbers=("rps",),
    )


def _cost_table(names: Sequence[str], parts: Sequence[str], costs: Costs) -> ResultTable:
    rows: list[list[float | str]] = []
    for name in names:
        each = [statistics.median(costs[name, part]) for part in parts]
        rows.append([name, *each, sum(each)])
    return ResultTable(
        title="CPU seconds per 1,000 requests, median over rounds",
        columns=("topology", *parts, "sum"),
        rows=rows,
        numbers=(*parts, "sum"),
    )


def _cost_chart(names: Sequence[str], parts: Sequence[str], costs: Costs, rounds: int) -> BarChart:
    groups = [
        BarGroup(
            name,
            [
                Bar(part, style_of(number), max(0.0, statistics.median(costs[name, part])))
                for number, part in enumerate(parts, 1)
            ],
        )
        for name in names
    ]
    most = max(sum(bar.value for bar in group.bars) for group in groups)
    return BarChart(
        "what a thousand requests cost each part in processor time",
        linear("CPU seconds per 1,000 requests", most),
        groups,
        stacked=True,
        name="cpu",
        note=f"Medians over n = {rounds} rounds.",
    )
