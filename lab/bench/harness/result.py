"""What a bench found: the measurements of each arm, the claims that rest on them, tables and charts.

::

    names = list(p50)
    return BenchResult(
        name=NAME, unit="ms (p50)", arms=p50, claims=[…], notes=[…],
        tables=[ResultTable(title="p50, ms", columns=("topology", "p50"), rows=[…], numbers=("p50",))],
        charts=[Chart("p50 over payload", payloads(sizes), linear("p50, ms", most), lines, name="payload")],
    )
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from lab.bench.harness.charts import chart_of_arms
from lab.measure.findings import Claim, Ran, ResultTable, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.measure.control import Control
    from lab.measure.pace import Pace
    from lab.report.picture import AnyChart

__all__ = ["BenchResult", "Claim", "Ran", "ResultTable", "State", "exit_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One bench.

    Attributes:
        name: as in the registry.
        unit: of the measurements; "as named" if they have not all the same.
        arms: arm → one measurement a round.
        claims: what follows.
        notes: what a reader must know to repeat it, or doubt it.
        controls: arms that were measured twice.
        paces: arm → how well the driver kept to its times there; for benches that drive at a rate.
        tables: what is printed; the medians of the arms if there is none.
        charts: what is drawn; the medians of the arms, or the claims against their bounds, if there is none.
        ran: when and where; whoever runs the bench fills it in.
    """

    name: str
    unit: str
    arms: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    notes: Sequence[str]
    controls: Sequence[Control] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)
    tables: Sequence[ResultTable] = ()
    charts: Sequence[AnyChart] = ()
    ran: Ran | None = None

    def medians(self) -> dict[str, float]:
        """Arm → median over its rounds."""
        return {arm: median(values) for arm, values in self.arms.items()}

    def shown_tables(self) -> Sequence[ResultTable]:
        """Its tables; never none."""
        if self.tables:
            return self.tables
        rows = list(self.medians().items())
        title = f"median over rounds, {self.unit}"
        return (ResultTable(title=title, columns=("", "median"), rows=rows, numbers=("median",)),)

    def shown_charts(self) -> Sequence[AnyChart]:
        """Its charts; never none."""
        return self.charts or (chart_of_arms(self.name, self.unit, self.arms, self.claims),)

    @property
    def origin(self) -> str:
        """What charts say of where their figures are from."""
        return self.name if self.ran is None else f"{self.name}, {self.ran}"

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ran": None if self.ran is None else asdict(self.ran),
            "rounds": {arm: list(values) for arm, values in self.arms.items()},
            "medians": self.medians(),
            "claims": [{**asdict(claim), "state": str(claim.state), "holds": claim.holds} for claim in self.claims],
            "controls": [{**asdict(control), "agrees": control.agrees} for control in self.controls],
            "paces": {arm: {**asdict(pace), "kept_up": pace.kept_up} for arm, pace in self.paces.items()},
            "notes": list(self.notes),
            "tables": [asdict(table) for table in self.shown_tables()],
            "charts": [asdict(chart) for chart in self.shown_charts()],
        }


def exit_status(results: Sequence[BenchResult]) -> int:
    """As for verdicts: 0 if every claim holds, 1 if one does not, 2 if one is unknown or a control disagrees."""
    states = {claim.state for result in results for claim in result.claims}
    if State.FAILS in states:
        return 1
    agree = not any(control.doubt for result in results for control in result.controls)
    return 0 if agree and State.UNKNOWN not in states else 2
