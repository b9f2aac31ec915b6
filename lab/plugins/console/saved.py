"""Puts saved runs on a board: what the page shows of them needs no lab."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import RunError
from lab.ops.explain_request import story, whole_story
from lab.plugins.console.board import Board
from lab.plugins.console.drawing import Drawing, DrawnUnit
from lab.plugins.console.live import JUDGED, revision_document, run_document, verdict_document
from lab.plugins.console.traffic import Traffic
from lab.roles import CALLER, MODEL, ROLES
from lab.runs import judge, runs_in
from lab.runs.folder import RunFolder
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.history import Record
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
        self._runs = [RunFolder(each) for each in runs_in(folder)]
        with RunFolder(folder).intact():
            plans = [run.plan for run in self._runs]
            self._revisions = {each.revision: each for each in self._runs[0].revisions}
            self._post(folder, plans)

    def story(self, request_id: str) -> dict[str, Any]:
        """The story of a request of these runs; see :func:`lab.ops.explain_request.whole_story`.

        Raises:
            InputError: no run has it.
        """

        def story_of(record: Record) -> dict[str, Any]:
            decided = self._revisions.get(record.revision)
            return story(record, decided.document if decided else None, [])

        return whole_story(request_id, [each.path for each in self._runs], story_of)

    def _post(self, folder: Path, plans: Sequence[LoadPlan]) -> None:
        callers = list(dict.fromkeys(plan.caller for plan in plans))
        topologies = dict.fromkeys(plan.topology for plan in plans)
        if unknown := topologies.keys() - TOPOLOGIES.keys():
            raise RunError(f"{folder}: topology {min(unknown)!r} is not known here; add it by --plugin")
        table = self._revisions[max(self._revisions)].document or {}
        units = list(_units(folder, callers, table))
        drawings = {name: Drawing(name, callers, units, table) for name in topologies}
        traffic = Traffic()
        for run, plan in zip(self._runs, plans, strict=True):
            name = str(run.path.relative_to(folder.parent))
            traffic.add(run.history, drawings)
            self.board.post("run", {name: run_document(plan, JUDGED, run.path)})
            self.board.post("verdict", {name: verdict_document(judge(run.path), final=True)})
        self.board.post("traffic", traffic.take_changed())
        self.board.post("drawing", {name: each.to_document() for name, each in drawings.items()})
        events = enumerate(self._runs[0].events)
        self.board.post("event", {str(number): asdict(each) | {"text": each.text} for number, each in events})
        self.board.post("revision", {str(number): revision_document(it) for number, it in self._revisions.items()})
        self.board.post("lab", {"name": folder.name, "saved": True})


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
