"""What a bench returns: samples of each variant, the claims that rest on them, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.measure.compare import typical
from lab.measure.findings import Claim, Ran, ResultTable, State
from lab.plugins.bench.harness.charts import MIXED, chart_of_claims, chart_of_medians

if TYPE_CHECKING:
    from lab.measure.control import Control
    from lab.measure.pace import Pace
    from lab.report.picture import AnyChart

__all__ = ["BenchResult", "Claim", "Ran", "ResultTable", "State", "exit_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """The result of one bench: one measurement a round of each variant, and the claims that rest on them.

    Attributes:
        unit: of the samples; "as named" if their units differ.
        missing: what was not measured, and why.
        notes: what a reader must know to repeat the measurement, or to doubt it.
        paces: variant → how well the driver kept its schedule; for benches that drive at a rate.
        tables: to print; by default the medians of the samples.
        charts: to draw; by default the medians of the samples, or the claims against their bounds.
        ran: when and where; :func:`lab.plugins.bench.harness.bench.measure` fills it in, and the name.
    """

    name: str = ""
    unit: str
    samples: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    notes: Sequence[str]
    missing: Sequence[str] = ()
    controls: Sequence[Control] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)
    tables: Sequence[ResultTable] = ()
    charts: Sequence[AnyChart] = ()
    ran: Ran | None = None

    def medians(self) -> dict[str, float]:
        """Returns each variant's median over its rounds; NaN if it was measured in none."""
        return {variant: typical(values) for variant, values in self.samples.items()}

    def shown_tables(self) -> Sequence[ResultTable]:
        """Returns its tables, at least one."""
        if self.tables:
            return self.tables
        rows = list(self.medians().items())
        title = f"median over rounds, {self.unit}"
        return (ResultTable(title, ("", "median"), rows, numbers=("median",)),)

    def shown_charts(self) -> Sequence[AnyChart]:
        """Returns its charts, at least one."""
        if self.charts or not self.samples:
            return self.charts
        if self.unit == MIXED:
            return (chart_of_claims(self.name, self.claims),)
        return (chart_of_medians(f"{self.name}: median of each variant", self.unit, self.samples),)

    @property
    def origin(self) -> str:
        """Where figures come from, as charts say it."""
        return f"Bench {self.name}" if self.ran is None else f"Bench {self.name}, {self.ran}"

    def to_document(self) -> dict[str, Any]:
        """Returns the JSON document."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ran": None if self.ran is None else asdict(self.ran),
            "rounds": {variant: list(map(_or_null, values)) for variant, values in self.samples.items()},
            "medians": {variant: _or_null(value) for variant, value in self.medians().items()},
            "claims": [claim.to_document() for claim in self.claims],
            "controls": [{**asdict(control), "agrees": control.agrees} for control in self.controls],
            "paces": {variant: {**asdict(pace), "kept_up": pace.kept_up} for variant, pace in self.paces.items()},
            "notes": list(self.notes),
            "missing": list(self.missing),
            "tables": [asdict(table) for table in self.shown_tables()],
            "charts": [asdict(chart) for chart in self.shown_charts()],
        }


def _or_null(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def exit_status(results: Sequence[BenchResult]) -> int:
    """Returns 1 if a claim does not hold, 2 if one is undecided, a control disagrees or a trial is missing, else 0."""
    states = {claim.state for result in results for claim in result.claims}
    if State.FAILS in states:
        return 1
    agree = all(control.agrees for result in results for control in result.controls)
    whole = not any(result.missing for result in results)
    return 0 if agree and whole and State.UNDECIDED not in states else 2
