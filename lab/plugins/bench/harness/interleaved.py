"""Variants measured in interleaved rounds: each once a round at each load point, by one driver process.

A *trial* is one short open-loop run of one variant at one load point in one round. Every answer of a trial is judged as
in any run: a wrong one voids the trial. A trial for which the driver was late is discarded and repeated, twice at most;
if it is still late, the claims that rest on it are undecided.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lab.history import Record, write_parquet
from lab.measure.compare import Interval, interleave
from lab.measure.control import Control, control
from lab.measure.findings import ResultTable, in_its_interval
from lab.measure.pace import RoundPace, pace_of
from lab.plugins.bench.harness.charts import chart_of_grouped_medians
from lab.plugins.bench.harness.driver_client import OpenLoopTrial, start_driver
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import LoadPoint, Variant, fastest_of_each_size
from lab.runs import folder as run_folder

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.report.bars import BarChart
    from lab.report.picture import AnyChart

REPEATS = 2
_UNIT = "ms (p50)"
_AFTER = ""  # in the place of a variant: what comes after all variants at a load point

DOUBTFUL = "? = in doubt: the driver was late in a round, or the A/A control disagrees or has too few rounds"
"""Explains the mark of :meth:`Rounds.shown`."""


@dataclass(slots=True)
class Rounds:
    """The measurements, by variant and load point: the p50 and the driver's pace of each round.

    Latency counts from the intended time, ms. The folder holds the history of all trials; controls are by load point,
    of the variant that was measured twice.
    """

    folder: Path
    variants: tuple[str, ...] = ()
    points: tuple[LoadPoint, ...] = ()
    p50_ms: dict[tuple[str, LoadPoint], list[float]] = field(default_factory=dict)
    paces: dict[tuple[str, LoadPoint], list[RoundPace]] = field(default_factory=dict)
    controls: dict[LoadPoint, Control] = field(default_factory=dict)

    def has(self, *variants: str) -> bool:
        """Returns whether all of these were measured."""
        return set(variants) <= set(self.variants)

    def fastest_at(self, payload_bytes: int) -> LoadPoint:
        """Returns the load point of a payload size that has the highest rate."""
        return max((point for point in self.points if point.payload_bytes == payload_bytes), key=lambda each: each.rate)

    def doubts(self, point: LoadPoint, *variants: str) -> tuple[str, ...]:
        """Returns why figures of these variants at this load point show nothing: late drivers, a control's doubt."""
        paces = {each: self.paces[each, point] for each in variants if (each, point) in self.paces}
        late = [f"{each}, {point}: {doubt}" for each, pace in paces.items() if (doubt := pace_of(pace).doubt)]
        doubt = self.controls[point].doubt if point in self.controls else ""
        return (*late, *([doubt] if doubt else []))

    def shown(self, figure: Interval, point: LoadPoint, *variants: str) -> str:
        """Returns a figure with its interval, and a question mark if it is in doubt."""
        return in_its_interval(figure) + (" ?" if self.doubts(point, *variants) else "")

    def table(
        self,
        title: str,
        headings: Sequence[str],
        rows: Iterable[tuple[Sequence[str], Callable[[LoadPoint], float | str]]],
    ) -> ResultTable:
        """Returns a table with a column per load point, from the labels of each row and its cell at a load point."""
        columns = [str(point) for point in self.points]
        cells = [[*labels, *map(cell, self.points)] for labels, cell in rows]
        return ResultTable(title, (*headings, *columns), cells, numbers=columns)

    def result(
        self,
        claims: Iterable[Claim],
        *,
        notes: Iterable[str],
        tables: Sequence[ResultTable],
        charts: Sequence[AnyChart] = (),
    ) -> BenchResult:
        """Returns the result of a bench that rests on these rounds alone."""
        named = {f"{variant}, {point}": (variant, point) for point in self.points for variant in self.variants}
        return BenchResult(
            unit=_UNIT,
            samples={name: self.p50_ms[key] for name, key in named.items()},
            claims=list(claims),
            notes=list(notes),
            controls=list(self.controls.values()),
            paces={name: pace_of(self.paces[key]) for name, key in named.items() if key in self.paces},
            tables=tables,
            charts=charts or [self._medians()],
        )

    def _medians(self) -> BarChart:
        groups = {
            str(point): {variant: self.p50_ms[variant, point] for variant in self.variants} for point in self.points
        }
        return chart_of_grouped_medians("median of each variant", _UNIT, groups)

    def repeated(self) -> int:
        """Returns the number of trials that were discarded because the driver was late."""
        return sum(each.repeated for paces in self.paces.values() for each in paces)


def measure(
    environment: Environment,
    variants: Sequence[Variant],
    points: Sequence[LoadPoint],
    rounds: int,
    *,
    measured_twice: tuple[str, str] | None = None,
    before: Callable[[Variant], None] = lambda _: None,
    after: Callable[[int, LoadPoint], None] = lambda _, __: None,
) -> Rounds:
    """Measures every variant once a round at every load point, in a random order.

    ``measured_twice`` names two variants that are the same, for the A/A control. ``before`` sets a variant up and is
    called before each of its trials; ``after`` is for measurements by other tools, once a round and load point.

    Raises:
        UnitError: no trial succeeded.
    """
    folder = run_folder.new_run_folder(environment.lab.runs)
    run_folder.create(folder)
    result = Rounds(folder, tuple(variant.name for variant in variants), tuple(points))
    records: list[Record] = []
    by_name = {variant.name: variant for variant in variants}
    orders = [
        [
            (name, point)
            for place, point in enumerate(order)
            for name in [*interleave(by_name, 1, seed=number * len(points) + place)[0], _AFTER]
        ]
        for number, order in enumerate(interleave(points, rounds), start=1)
    ]
    trials = Trials(environment, orders, warm_up=[*product(by_name, fastest_of_each_size(points))])
    with start_driver(environment, folder) as driver:
        for each in trials:
            name, point = each.cell
            with each:
                if name == _AFTER:
                    after(each.number, point)
                    continue
                before(by_name[name])
                trial = repeated_if_late(partial(driver.run_at, point, by_name[name], seed=each.number))
                each.keep(p50_ms=trial.p50_ms)
                if each.number:
                    result.paces.setdefault(each.cell, []).append(trial.pace)
                    records += trial.records
    result.p50_ms = {cell: values for (cell, _), values in trials.samples.items() if cell[0] != _AFTER}
    write_parquet(records, folder / run_folder.HISTORY)
    document = [
        {
            "variant": name,
            **asdict(point),
            "p50_ms": values,
            "paces": [asdict(each) for each in result.paces.get((name, point), ())],
        }
        for (name, point), values in result.p50_ms.items()
    ]
    (folder / "trials.json").write_text(json.dumps(document, indent=1))
    if measured_twice:
        variant_name, again = measured_twice
        result.controls = {
            point: control(
                f"{again} − {variant_name}, p50, {point}, ms",
                result.p50_ms[variant_name, point],
                result.p50_ms[again, point],
                among=len(points),
            )
            for point in points
        }
    return result


def repeated_if_late(run: Callable[[], OpenLoopTrial]) -> OpenLoopTrial:
    """Runs a trial, and at most :data:`REPEATS` more while the driver is late; the last has the records of all."""
    trial = run()
    repeated = 0
    while trial.pace.late and repeated < REPEATS:
        repeated += 1
        again = run()
        trial = OpenLoopTrial(again.p50_ms, replace(again.pace, repeated=repeated), [*trial.records, *again.records])
    return trial
