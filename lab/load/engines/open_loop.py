"""The open loop: each request at its time, whether earlier ones are answered or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from lab.load.coordinator import coordinate
from lab.load.engines._engine import Engine
from lab.load.open_loop import Stop
from lab.load.open_loop_run import drive
from lab.load.plan import OPEN_LOOP, EnginePlan
from lab.load.steps import connect, print_progress, raise_priority, write_summary
from lab.load.summary import require_no_problem

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan


async def _run(plan: LoadPlan, path: Path) -> None:
    if plan.drivers > 1:
        raise_priority()
        summary = await coordinate(plan, path, print_progress)
        write_summary(plan.summary, summary)
        require_no_problem(summary)
    else:
        stop, schedule = Stop.on_signals(), plan.schedule()
        raise_priority()
        write_summary(plan.summary, await drive(plan, schedule, connect(plan), stop, print_progress))


def _read(document: Mapping[str, Any], folder: Path) -> EnginePlan | None:
    del folder
    return OPEN_LOOP if document.get("steering") is None else None


ENGINE = Engine(
    name=OPEN_LOOP.name,
    summary="each request at its time",
    plan=lambda: OPEN_LOOP,
    run=lambda plan, path: uvloop.run(_run(plan, path)),
    read_before_names=_read,
)
