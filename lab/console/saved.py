"""Puts saved runs on a board: what the page shows of them needs no lab."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.console.board import Board
from lab.console.drawing import Drawing, DrawnUnit
from lab.console.live import JUDGED, run_document, verdict_document
from lab.console.one_request import find, story
from lab.console.traffic import Traffic
from lab.errors import RunError
from lab.history import read_parquet
from lab.roles import CALLER, MODEL, ROLES
from lab.runs import judge, runs_in
from lab.runs.events import run_events
from lab.runs.folder import HISTORY, REVISIONS, intact, parsed, plan_of
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan


class SavedRuns:
    """One saved run, or runs of the same time.

    Args:
        folder: of the run, or of the simultaneous runs.

    Attributes:
        board: shows them.

    Raises:
        RunError: there is no run, or its folder cannot be read, or was changed since.
    """

    def __init__(self, folder: Path) -> None:
        self.board = Board()
        self._folders = runs_in(folder)
        with intact(folder):
            plans = {each: plan_of(each) for each in self._folders}
            self._tables = {int(each["revision"]): each["document"] for each in self._revisions()}
            self._post(folder, plans)

    def story(self, request_id: str) -> dict[str, Any]:
        """The story of a request of these runs; see :func:`lab.console.one_request.story`.

        Raises:
            InputError: no run has it.
        """
        record = find(request_id, self._folders)
        return story(record, self._tables.get(record.revision), [])

    def _revisions(self) -> list[dict[str, Any]]:
        return parsed(self._folders[0] / REVISIONS, list, "no list of revisions; name the folder of a finished run")

    def _post(self, folder: Path, plans: Mapping[Path, LoadPlan]) -> None:
        callers = list(dict.fromkeys(plan.caller for plan in plans.values()))
        if unknown := {plan.topology for plan in plans.values()} - set(TOPOLOGIES):
            raise RunError(f"{folder}: topology {min(unknown)!r} is not known here; add it by --plugin")
        table = self._tables[max(self._tables)]
        units = list(_units(folder, callers, table))
        topologies = dict.fromkeys(plan.topology for plan in plans.values())
        drawings = {name: Drawing(name, callers, units, table) for name in topologies}
        traffic = Traffic()
        for each, plan in plans.items():
            name = str(each.relative_to(folder.parent))
            traffic.add(read_parquet(each / HISTORY), drawings)
            self.board.post("run", {name: run_document(plan, JUDGED, each)})
            self.board.post("verdict", {name: verdict_document(judge(each), final=True)})
        self.board.post("traffic", traffic.take_changed())
        self.board.post("drawing", {name: each.to_document() for name, each in drawings.items()})
        events = enumerate(run_events(self._folders[0]))
        self.board.post("event", {str(number): asdict(each) | {"text": each.text} for number, each in events})
        self.board.post("revision", {str(each["revision"]): _revision(each) for each in self._revisions()})
        self.board.post("lab", {"name": folder.name, "saved": True})


def _revision(document: Mapping[str, Any]) -> dict[str, Any]:
    converged = (step["at_ns"] for step in document["steps"] if step["phase"] == "converged")
    return {"at_ns": next(converged, document.get("created_ns", 0)), "comment": document.get("comment", "")}


def _units(folder: Path, callers: Collection[str], table: Mapping[str, Any]) -> Iterator[DrawnUnit]:
    """Yields the units of which a run's folder has logs, as far as their names say what they are."""
    for name in sorted(each.name for each in (folder / "units").glob("*")):
        beside = [(role, caller) for role in ROLES for caller in callers if name == f"{caller}-{role}"]
        shared = [(role, name) for role in ROLES if re.fullmatch(rf"{role}(-\d+)?", name)]
        if name in callers:
            yield DrawnUnit(name, CALLER, name)
        elif found := beside or shared:
            yield DrawnUnit(name, *found[0])
        elif name.rpartition("-")[0] in table["clusters"]:
            yield DrawnUnit(name, MODEL, name)
