"""Each run's plan, and the verdict of every checker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lab.load.arrivals import ArrivalPlan, arrivals_to_document

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.report.run import ReportedRun

_MOST_VIOLATIONS = 20
"""Violations shown of one checker; `lab check --json` prints all."""


def view(runs: Sequence[ReportedRun]) -> list[tuple[ReportedRun, str, str, int]]:
    """Each run, kind and parameters of its arrivals, when it started, UTC, and the most violations to show."""
    return [(run, _when(run.plan), _started(run), _MOST_VIOLATIONS) for run in runs]


def _when(plan: LoadPlan) -> str:
    if not plan.engine.scheduled:
        return f"{plan.engine.name}, {plan.engine.in_words}"
    return arrivals_text(plan.arrivals)


def arrivals_text(plan: ArrivalPlan) -> str:
    """E.g. ``poisson: rate 200, duration 5 s, seed 0``."""
    parameters = {name: value for name, value in arrivals_to_document(plan).items() if value is not None}
    kind = parameters.pop("kind")
    return f"{kind}: " + ", ".join(_parameter(name, value) for name, value in parameters.items())


def _parameter(name: str, value: object) -> str:
    if name == "path":
        return f"file {Path(str(value)).name}"
    written = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name[:-2]} {written} s" if name.endswith("_s") else f"{name} {written}"


def _started(run: ReportedRun) -> str:
    return f"{datetime.fromtimestamp(run.start_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}" if len(run.history) else ""
