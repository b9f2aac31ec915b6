"""Saves, when a run is made, the requests that it is to send, by the checkers' own reading of its plan."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

from lab.checkers.plain_schedule import PlannedRequest, PlannedRun, is_planned, planned_requests, planned_run
from lab.errors import RunError
from lab.history.parquet import open_parquet
from lab.reading import open_regular
from lab.runs.folder import PLAN, PLANNED, plan_of, read_json

_ROW_GROUP = 65_536


def save_planned(folder: Path) -> None:
    """Writes the planned requests of the run in this folder, whose plan is there; nothing if nothing plans them."""
    plan = _plan_in(folder)
    if not is_planned(plan):
        return
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    types = {int: pa.int64(), str: pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in get_type_hints(PlannedRequest).items()])
    requests = _computed(folder, plan)
    with pq.ParquetWriter(folder / PLANNED, schema, compression="zstd") as writer:
        while rows := list(islice(requests, _ROW_GROUP)):
            writer.write_table(
                pa.Table.from_arrays([pa.array(each) for each in zip(*rows, strict=True)], schema=schema)
            )


def planned_in(folder: Path) -> PlannedRun | None:
    """Returns what the run in this folder was to send; None if nothing planned it.

    A run from before that was saved has it computed from its plan.

    Raises:
        RunError: the file holds something else.
    """
    plan = _plan_in(folder)
    if not is_planned(plan):
        return None
    path = folder / PLANNED
    if not path.exists():
        return planned_run(plan, list(_computed(folder, plan)))
    try:
        with open_parquet(path) as file:
            table = file.read(use_threads=False)
        columns = [table.column(name).to_pylist() for name in PlannedRequest._fields]
    except (OSError, KeyError, ValueError) as error:  # of pyarrow, too
        raise RunError(f"{path}: no planned requests ({error}); restore the file, or remove it") from error
    return planned_run(plan, [PlannedRequest(*row) for row in zip(*columns, strict=True)])


def _plan_in(folder: Path) -> Any:
    """A run's plan in its JSON form, with its engine's part also if it is from before plans named their engine."""
    plan = read_json(folder / PLAN)
    return plan if "engine" in plan else {**plan, "engine": plan_of(folder).engine.to_document()}


def _computed(folder: Path, plan: Any) -> Iterator[PlannedRequest]:
    if plan["arrivals"]["kind"] != "trace":
        yield from planned_requests(plan)
        return
    with TextIOWrapper(open_regular(folder / plan["arrivals"]["path"]), encoding="utf-8-sig", newline="") as trace:
        yield from planned_requests(plan, trace)
