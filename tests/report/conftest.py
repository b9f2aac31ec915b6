from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lab.client import Endpoints
from lab.history import Record, write_parquet
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.runs.events import RUN_EVENTS, Event
from lab.runs.folder import HISTORY, PLAN, REVISIONS
from tests.report.builders import VERSIONS, make_record, make_revision


@pytest.fixture(name="make_run")
def fixture_make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a run of two seconds with 400 requests, as `lab load` leaves it."""

    def make(
        records: Sequence[Record] | None = None,
        *,
        name: str = "20231114T221320.000Z",
        topology: str = "mesh",
        revisions: Sequence[dict[str, Any]] = (make_revision(1, loaded=1, converged=2),),
        events: Sequence[Event] = (),
        versions: Mapping[str, str] = VERSIONS,
        **plan_changes: Any,
    ) -> Path:
        folder = tmp_path / "runs" / "lab" / name
        folder.mkdir(parents=True)
        values: dict[str, Any] = {
            "topology": topology,
            "caller": "homepage",
            "use_cases": (UseCase("Rows", "ranking.v1"),),
            "arrivals": Constant(200, 2.0),
            "endpoints": Endpoints(),
            "spool": folder / "history.jsonl",
            "summary": folder / "driver.json",
            **plan_changes,
        }
        plan = LoadPlan(**values)
        write_plan(plan, folder / PLAN)
        write_parquet([make_record(each) for each in range(400)] if records is None else records, folder / HISTORY)
        (folder / REVISIONS).write_text(json.dumps(revisions))
        (folder / "versions.json").write_text(json.dumps(versions))
        (folder / RUN_EVENTS).write_text(json.dumps([asdict(event) for event in events]))
        return folder

    return make
