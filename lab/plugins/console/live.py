"""Watches a lab and its runs, and posts what it sees: the drivers' records, units' states, events, and verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError, LabNotRunningError, RunError
from lab.faults import FAULTS
from lab.history import SpoolTail
from lab.ops.explain_request import story, whole_story
from lab.plugins.console.board import Board
from lab.plugins.console.drawing import Drawing, DrawnUnit, drawable
from lab.plugins.console.traffic import KEPT_TICKS, Traffic
from lab.reading import parse_json
from lab.runs import RunResult, judge
from lab.runs.events import lab_events
from lab.runs.folder import PLAN, RunFolder
from lab.runtime import RUNTIMES
from lab.runtime.state import LabState

if TYPE_CHECKING:
    from lab.client.admin_values import RevisionInfo
    from lab.faults.state import FaultRecord
    from lab.history import Record
    from lab.lab import Lab
    from lab.load.plan import LoadPlan

POLL_S = 0.1
"""Interval at which records are read."""

LOOK_S = 1.0
"""Interval at which units' states are read."""

JUDGE_S = 2.0
"""Least time between two interim verdicts on a run."""

IDLE_SHARE = 10
"""Judging runs that go on takes one part in this many of the time, however long and many they are."""

GIVE_UP_S = 60.0
"""A run that has no summary by then has lost its driver."""

PLAY = "play.json"
"""File in the lab's folder, which is replaced at each step of a play: what the page shows of it."""

_FIRST = 10  # violations
_NEWEST = 20  # folders of runs that may go on
DRIVING, COLLECTING, JUDGED, LOST = "driving", "collecting", "judged", "lost"
_OF_RUNS = ("run", "traffic", "older", "verdict")


@dataclass(slots=True)
class _Run:
    folder: Path
    name: str
    plan: LoadPlan
    tails: dict[Path, SpoolTail] = field(default_factory=dict)
    state: str = DRIVING
    judge_after_s: float = 0.0
    ended_s: float = 0.0


class Watcher:
    """Watches a lab in threads of its own, between :meth:`start` and :meth:`stop`.

    Args:
        lab: that is up.

    Attributes:
        board: takes what is seen.
    """

    def __init__(self, lab: Lab) -> None:
        self.board = Board()
        self._lab = lab
        self._stop = Event()
        self._runs: dict[Path, _Run] = {}
        self._judge_after_s = 0.0  # any run that goes on
        self._traffic = Traffic(KEPT_TICKS)
        self._drawings: dict[str, Drawing] = {}
        self._down: list[str] = []
        self._units: dict[str, dict[str, str]] = {}
        self._drawn = (0, 0)  # the revisions in force for all callers, and for some
        self._threads = [
            Thread(target=self._repeat, args=(step, interval_s), daemon=True)
            for step, interval_s in ((self._read, POLL_S), (self._look, LOOK_S), (self._judge, POLL_S))
        ]

    def start(self) -> None:
        """Looks once, and goes on in the background.

        Raises:
            LabNotRunningError: the lab is not up.
        """
        self._look()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads; returns once they have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, step: Callable[[], None], interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            try:
                step()
            except LabError as error:  # it may be down for a while, or a file be half written
                self.board.post("lab", {"trouble": str(error)})

    def story(self, request_id: str) -> dict[str, Any]:
        """The story of a request of the runs on the page; see :func:`lab.ops.explain_request.whole_story`.

        Raises:
            InputError: no run has it.
        """
        return whole_story(request_id, list(self._runs), self._story_of)

    def _story_of(self, record: Record) -> dict[str, Any]:
        try:
            lines = self._lab.logs(record.request_id)
        except InputError:  # it reached no unit that logs
            lines = []
        table = self._lab.routes.show(record.revision).document if record.revision else None
        logging = {unit.role for unit in LabState.of(self._lab.folder).plan.units if unit.logs_requests}
        return story(record, table, lines, logging)

    # -- the lab -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            status = self._lab.status()
        except LabNotRunningError:
            self._post_units({name: {**unit, "state": "exited"} for name, unit in self._units.items()})
            self.board.post("lab", {"up": False, "faults": []})
            raise
        self._post_units({unit.name: {"role": unit.role, "state": unit.state} for unit in status.units})
        self.board.post("play", {"now": self._play()})
        kinds = [kind.name for kind in FAULTS.values() if status.runtime in (kind.runtimes or RUNTIMES)]
        self.board.post("lab", {"name": status.name, "runtime": status.runtime, "kinds": kinds, "trouble": ""})
        self.board.post("lab", {"up": True})
        active = self._lab.faults.active()
        self.board.post("lab", {"faults": [_fault(each.record) for each in active]})
        events = enumerate(lab_events(self._lab.folder))
        self.board.post("event", {str(number): asdict(each) | {"text": each.text} for number, each in events})
        if (known := status.control_plane) is not None:
            if (in_force := (known.revision, known.staged)) != self._drawn:
                self._draw(known.staged)
                self._drawn = in_force
            stage = {"revision": known.staged, "callers": list(known.staged_for)} if known.staged else None
            self.board.post("lab", {"revision": known.revision, "stage": stage})

    def _play(self) -> dict[str, Any]:
        """What the play is at that goes on, or was the last on this lab; empty if there was none."""
        try:
            state: dict[str, Any] = parse_json((self._lab.folder / PLAY).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state

    def _post_units(self, units: dict[str, dict[str, str]]) -> None:
        self._units, self._down = units, [name for name, unit in units.items() if unit["state"] != "running"]
        self.board.post("unit", units)

    def _draw(self, staged: int) -> None:
        state, document = LabState.of(self._lab.folder), self._lab.routes.show().document or {}
        if staged:
            document = with_versions_of(self._lab.routes.show(staged).document or {}, document)
        callers = list(state.plan.callers)
        units = [DrawnUnit(unit.name, unit.role, unit.pod) for unit in state.plan.units]
        self._drawings = {
            each.name: Drawing(each.name, callers, units, document) for each in drawable(state.topologies)
        }
        choices = {"models": _versions(document), "tenants": list(document.get("tenants", ()))}
        self.board.post("lab", {"routes": str(state.spec.routes), **choices})
        self.board.post("drawing", {name: each.to_document() for name, each in self._drawings.items()})
        revisions = [each for each in self._lab.routes.history() if each.fate not in ("failed", "under way")]
        self.board.post("revision", {str(each.revision): revision_document(each) for each in revisions})

    # -- runs ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._find()
        for run in self._runs.values():
            if run.state == DRIVING:
                spools = RunFolder(run.folder).spools  # before reading: what was written last is in the open files
                with suppress(OSError):  # it has just been saved
                    run.tails |= {spool: SpoolTail(spool) for spool in spools if spool not in run.tails}
                for tail in run.tails.values():
                    self._traffic.add(tail.read(), self._drawings, self._down)
                if not spools:
                    for tail in run.tails.values():
                        tail.close()
                    run.state, run.ended_s = COLLECTING, time.monotonic()
                    self._post(run)
        older, gone = self._traffic.take_older()
        self.board.drop("traffic", gone)
        self.board.post("older", older)
        self.board.post("traffic", self._traffic.take_changed())

    def _find(self) -> None:
        for folder in self._going_on():
            if folder in self._runs:
                continue
            try:
                run = _Run(folder, str(folder.relative_to(self._lab.runs)), RunFolder(folder).plan)
            except RunError:
                continue  # it begins, or has just ended
            if not any(each.state == DRIVING for each in self._runs.values()):
                self._runs.clear()
                self._traffic = Traffic(KEPT_TICKS)
                self.board.clear(*_OF_RUNS)
            self._runs[folder] = run
            self._post(run)

    def _going_on(self) -> Iterator[Path]:
        """The folders of runs whose drivers write records."""
        runs = self._lab.runs
        names = sorted((each.name for each in runs.iterdir()), reverse=True) if runs.is_dir() else []
        for folder in (runs / name for name in names[:_NEWEST] if name[:1].isdigit()):
            try:
                each_of = [folder / name for name in RunFolder(folder).together] or [folder]
            except RunError:
                continue
            yield from (each for each in each_of if RunFolder(each).spools and (each / PLAN).exists())

    def _post(self, run: _Run) -> None:
        self.board.post("run", {run.name: run_document(run.plan, run.state, run.folder)})

    # -- verdicts ------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        for run in sorted(self._runs.values(), key=lambda run: run.judge_after_s):  # each has its turn
            began_s = time.monotonic()
            if run.state == DRIVING and began_s >= max(run.judge_after_s, self._judge_after_s):
                with suppress(RunError, LabNotRunningError):  # it has just begun or ended, or the control plane is down
                    self._post_verdict(run, self._lab.judge_so_far(run.folder))
                now_s = time.monotonic()
                run.judge_after_s = now_s + JUDGE_S
                self._judge_after_s = now_s + IDLE_SHARE * (now_s - began_s)
            elif run.state == COLLECTING and (run.folder / RunFolder.summary.name).exists():
                with suppress(RunError):  # its summary is not sealed yet
                    result = judge(run.folder)
                    run.state = JUDGED
                    self._post_verdict(run, result)
                    self._post(run)
            elif run.state == COLLECTING and time.monotonic() - run.ended_s > GIVE_UP_S:
                run.state = LOST
                self._post(run)

    def _post_verdict(self, run: _Run, result: RunResult) -> None:
        self.board.post("verdict", {run.name: verdict_document(result, final=run.state == JUDGED)})


def with_versions_of(staged: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the versions and clusters that only a staged one has, to draw the requests that go there.

    A version that both have is on one cluster, else the one could not be staged.
    """
    before = table.get("models", {})
    models = {
        model: {**entry, "versions": {**entry["versions"], **before.get(model, entry)["versions"]}}
        for model, entry in staged["models"].items()
    }
    return {**table, "models": {**before, **models}, "clusters": {**staged["clusters"], **table.get("clusters", {})}}


def run_document(plan: LoadPlan, state: str, folder: Path) -> dict[str, Any]:
    """A run as the page needs it."""
    return {"topology": plan.topology, "caller": plan.caller, "state": state, "dir": str(folder)}


def verdict_document(result: RunResult, *, final: bool) -> dict[str, Any]:
    """The figures and verdicts of a run, with the number of violations and the first ones."""
    document = result.to_document()
    for verdict in document["verdicts"]:
        verdict["violations"] = {"count": len(verdict["violations"]), "first": verdict["violations"][:_FIRST]}
    return {**document, "final": final, "sentence": result.sentence}


def revision_document(each: RevisionInfo) -> dict[str, Any]:
    """A revision as the page needs it; without callers it is for all."""
    at_ns = each.times.get("converged", each.created_ns)
    return {"at_ns": at_ns, "comment": each.comment, "callers": list(each.callers)}


def _fault(each: FaultRecord) -> dict[str, Any]:
    return {"id": each.id, "kind": each.kind, "target": each.target, "units": list(each.units)}


def _versions(table: Mapping[str, Any]) -> dict[str, list[str]]:
    return {model: list(entry["versions"]) for model, entry in table.get("models", {}).items()}
