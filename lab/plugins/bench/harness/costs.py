"""Measures what a request costs each part of a topology in processor time, in a closed loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.history import Record, write_parquet
from lab.measure.compare import interleave, typical
from lab.plugins.bench.harness.driver_client import Driver, start_driver
from lab.plugins.bench.harness.environment import Environment, cpu_seconds
from lab.plugins.bench.harness.result import ResultTable
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, Variant
from lab.plugins.capacity import costs as table_format
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of
from lab.report.scales import linear, size
from lab.roles import CALLER as CALLER_ROLE
from lab.roles import MODEL, ROLES
from lab.runs import folder as run_folder
from lab.runtime.process.family import family

IN_FLIGHT = 16
_RPS = "rps"


@dataclass(slots=True)
class CostRounds:
    """Requests per second and CPU seconds per 1,000 requests, one value a round; ``folder`` holds the history."""

    folder: Path
    parts: Sequence[str] = ()
    rps: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    cpu_s: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)

    def table(self) -> ResultTable:
        """Returns the table that :func:`lab.plugins.capacity.costs.costs_of` reads."""
        rows: list[list[float | str]] = []
        for variant, payload_bytes in self.rps:
            each = [self._median(variant, payload_bytes, part) for part in self.parts]
            if not math.isnan(sum(each)):
                rows.append([variant, payload_bytes, *each, sum(each)])
        columns = (table_format.TOPOLOGY, table_format.PAYLOAD, *self.parts, table_format.SUM)
        return ResultTable(table_format.TITLE, columns, rows, numbers=columns[1:])

    def chart(self, payload_bytes: int) -> BarChart:
        """Returns the same for one payload size, as bars."""
        groups = [
            BarGroup(
                variant,
                [
                    Bar(part, style_of(number), max(0.0, self._median(variant, payload_bytes, part)))
                    for number, part in enumerate(self.parts, 1)
                ],
            )
            for variant, of_size in self.rps
            if of_size == payload_bytes
        ]
        rounds = len(next(iter(self.rps.values())))
        most = max(sum(bar.value for bar in group.bars) for group in groups)
        return BarChart(
            f"what a thousand requests of {size(payload_bytes)} cost each part in processor time",
            linear("CPU seconds per 1,000 requests", most),
            groups,
            stacked=True,
            name="cpu",
            note=f"Medians over n = {rounds} rounds.",
        )

    def _median(self, variant: str, payload_bytes: int, part: str) -> float:
        return typical(self.cpu_s[variant, payload_bytes, part])


def measure(
    environment: Environment, variants: Sequence[Variant], payloads: Sequence[int], rounds: int, *, seconds: float
) -> CostRounds:
    """Keeps every variant busy for ``seconds`` once a round with every payload size.

    Raises:
        UnitError: no trial succeeded.
    """
    folder = run_folder.new_run_folder(environment.lab.runs)
    run_folder.create(folder)
    found = CostRounds(folder)
    records: list[Record] = []
    cells = [(variant.name, payload) for payload in payloads for variant in variants]
    by_name = {variant.name: variant for variant in variants}
    trials = Trials(environment, interleave(cells, rounds), warm_up=cells)
    with start_driver(environment, folder) as driver:
        pids = _pids_by_part(environment, driver)
        found.parts = list(pids)
        for trial in trials:
            variant, payload = trial.cell
            with trial:
                before = _cpu_by_part(pids)
                took_s, answered = driver.run_closed_loop(
                    by_name[variant], payload_bytes=payload, seconds=seconds, in_flight=IN_FLIGHT, seed=trial.number
                )
                after = _cpu_by_part(pids)
                costs = {part: (after[part] - before[part]) / len(answered) * 1e3 for part in pids}
                trial.keep(**{_RPS: len(answered) / took_s}, **costs)
                records += answered if trial.number else ()
    for (cell, figure), values in trials.samples.items():
        if figure == _RPS:
            found.rps[cell] = values
        else:
            found.cpu_s[(*cell, figure)] = values
    write_parquet(records, folder / run_folder.HISTORY)
    return found


def _pids_by_part(environment: Environment, driver: Driver) -> Mapping[str, Sequence[int]]:
    """Part → process ids that work for the caller's requests; the driver takes the caller's place."""
    parts: dict[str, list[int]] = {table_format.CALLER: [driver.pid]}
    state = environment.state
    for unit in state.plan.units:
        other_cluster = unit.role == MODEL and unit.cluster != CLUSTER
        beside_other_caller = unit.pod in state.plan.callers and unit.pod != CALLER
        if unit.role != CALLER_ROLE and not other_cluster and not beside_other_caller:
            parts.setdefault(ROLES[unit.role].part, []).append(state.running[unit.name].pid)
    return parts


def _cpu_by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    return {part: sum(cpu_seconds(each) for pid in pids for each in family(pid)) for part, pids in parts.items()}
