"""What a request costs each part of a topology in processor time, kept busy in a closed loop."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.bench.harness.driver_client import driver
from lab.bench.harness.environment import cpu_seconds
from lab.bench.harness.result import ResultTable
from lab.bench.harness.variant import CALLER, CLUSTER
from lab.capacity import costs as kept
from lab.history import write_parquet
from lab.measure.compare import interleave
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of
from lab.report.scales import linear, size
from lab.runs import folder as run_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lab.bench.harness.driver_client import Driver
    from lab.bench.harness.environment import Setting
    from lab.bench.harness.variant import Arm
    from lab.history import Record

IN_FLIGHT = 16
_PARTS = {"model": "models", "control-plane": "control plane"}
"""Role → its part, where that is not the role itself."""


@dataclass(slots=True)
class Busy:
    """What was measured.

    Attributes:
        folder: where the history is.
        parts: in the order in which they are shown.
        rps: by arm and payload, one value a round.
        cpu_s: by arm, payload and part, CPU seconds per 1,000 requests, likewise.
    """

    folder: Path
    parts: Sequence[str] = ()
    rps: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    cpu_s: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)

    def table(self) -> ResultTable:
        """In the form that :func:`lab.capacity.costs.costs_of` reads."""
        rows: list[list[float | str]] = []
        for arm, payload_bytes in self.rps:
            each = [self._median(arm, payload_bytes, part) for part in self.parts]
            rows.append([arm, payload_bytes, *each, sum(each)])
        columns = (kept.TOPOLOGY, kept.PAYLOAD, *self.parts, kept.SUM)
        return ResultTable(title=kept.TITLE, columns=columns, rows=rows, numbers=columns[1:])

    def chart(self, payload_bytes: int) -> BarChart:
        """The same for one payload."""
        groups = [
            BarGroup(
                arm,
                [
                    Bar(part, style_of(number), max(0.0, self._median(arm, payload_bytes, part)))
                    for number, part in enumerate(self.parts, 1)
                ],
            )
            for arm, of_size in self.rps
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

    def _median(self, arm: str, payload_bytes: int, part: str) -> float:
        return statistics.median(self.cpu_s[arm, payload_bytes, part])


def measure(
    setting: Setting, arms: Sequence[Arm], payloads: Sequence[int], rounds: int, *, seconds: float = 1.0
) -> Busy:
    """Keeps every arm busy once a round with every size of payload, ``seconds`` each.

    Raises:
        UnitError: an answer was wrong or missing, or the driver ended.
    """
    folder = run_folder.folder_of_now(setting.lab.runs)
    run_folder.make(folder)
    found = Busy(folder)
    records: list[Record] = []
    turns_of_all = [(arm, payload) for payload in payloads for arm in arms]
    found.rps = {(arm.name, payload): [] for arm, payload in turns_of_all}
    with driver(setting, folder) as turns:
        pids = _parts(setting, turns)
        found.parts = list(pids)
        for number, order in enumerate([turns_of_all, *interleave(turns_of_all, rounds, seed=0)]):
            setting.say(f"round {number} of {rounds}: {len(order)} turns" if number else "warming up")
            for arm, payload in order:
                before = _cpu_by_part(pids)
                turn = turns.keep_busy(arm, payload_bytes=payload, seconds=seconds, in_flight=IN_FLIGHT, seed=number)
                after = _cpu_by_part(pids)
                if number:
                    answered = len(turn.records)
                    found.rps[arm.name, payload].append(answered / turn.took_s)
                    for part in pids:
                        cost = (after[part] - before[part]) / answered * 1e3
                        found.cpu_s.setdefault((arm.name, payload, part), []).append(cost)
                    records += turn.records
    write_parquet(records, folder / run_folder.HISTORY)
    return found


def _parts(setting: Setting, turns: Driver) -> Mapping[str, Sequence[int]]:
    """Part → process ids of what does its work for the caller; the driver stands in the caller's place."""
    parts: dict[str, list[int]] = {kept.CALLER: [turns.pid]}
    for unit in setting.state.plan.units:
        elsewhere = unit.role == "model" and unit.cluster != CLUSTER
        others = unit.role in {"sidecar", "resolver"} and unit.pod != CALLER
        if unit.role != "caller" and not elsewhere and not others:
            part = _PARTS.get(unit.role, unit.role)
            parts.setdefault(part, []).append(setting.state.running[unit.name].pid)
    return parts


def _cpu_by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    return {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}
