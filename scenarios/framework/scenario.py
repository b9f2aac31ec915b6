"""A running scenario: its steps, whether the effects of its faults were seen, and the folder that it leaves."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lab.clock import lab_time_ns
from lab.errors import DeadlineError
from lab.faults import Visible
from lab.roles import CALLER
from lab.runs.events import STEP, STEP_OVER, Event, append_event, lab_events
from lab.runs.version import lab_version
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually
from scenarios.framework.catalogue import RESULT
from scenarios.framework.verdicts import INVALID, UnknownError

if TYPE_CHECKING:
    from lab.faults import Fault
    from lab.lab import Lab
    from scenarios.framework.console import Display

T = TypeVar("T")

SEEN_WITHIN = timedelta(seconds=10)

_CALLER = "homepage"  # whose units failures show, of those that stand beside each caller
_LOG_LINES, _LOG_WIDTH = 5, 300
_LONGEST_NAME = 120


@dataclass(slots=True)
class Step:
    """A step; ``took_s`` is None while it runs, and ``ok`` is true once it has ended without an error."""

    number: int
    title: str
    ok: bool = False
    took_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Scenario:
    """The fixture ``scenario``: steps, faults, and the evidence that a scenario leaves.

    Attributes:
        lab: the lab that it runs against.
        folder: what it leaves: one folder for each of its runs, and :data:`RESULT`.
        module: name of its module.
        name: name of its function.
        case: its parameters as pytest writes them; empty if it has none.
        topology: topology of this case; empty if it uses several at once.
        runtime: name of the lab's runtime.
        display: shows its steps.
    """

    lab: Lab
    folder: Path
    module: str
    name: str
    case: str
    topology: str
    runtime: str
    display: Display
    steps: list[Step] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    _labs: list[Lab] = field(default_factory=list)
    _seen_ns: list[int] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _began_ns: int = field(default_factory=lab_time_ns)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.watch(self.lab)

    def watch(self, lab: Lab) -> None:
        """Puts the runs of another lab into this scenario's folder, with the steps on their time line."""
        self._labs.append(lab)
        lab.runs = self.folder

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Begins the next step, named in the imperative. It is displayed, and marked on the time line of runs."""
        step = Step(len(self.steps) + 1, title)
        self.steps.append(step)
        began = time.monotonic()
        self._mark(STEP, step)
        self.display.step(step.number, title)
        try:
            yield
            step.ok = True
        finally:
            step.took_s = round(time.monotonic() - began, 3)
            self._mark(STEP_OVER, step)
            self.display.step_over(ok=step.ok, took_s=step.took_s)

    def see(self, what: str, probe: Callable[[], T], *, within: timedelta, until: Callable[[T], bool] = bool) -> T:
        """Waits, like ``eventually``, for a visible effect of the faults so far; without one the scenario is unknown.

        Raises:
            UnknownError: no effect was seen in time.
        """
        try:
            found = eventually(what, probe, within=within, until=until)
        except DeadlineError as error:
            raise UnknownError(f"the fault had no visible effect: {error}") from None
        self.saw()
        return found

    def inject(self, kind: str, target: str = "", *, lab: Lab | None = None, **settings: Any) -> Fault:
        """Injects a fault and returns it once its effect is visible.

        Args:
            kind: e.g. ``kill``.
            target: unit, cluster or role.
            lab: the lab to inject it into; the scenario's own by default.
            settings: see :meth:`lab.faults.Injector.inject`.

        Raises:
            UnknownError: it has no visible effect.
        """
        fault = (lab or self.lab).faults.inject(kind, target, **settings)
        self.see_fault(fault)
        return fault

    def kill(self, target: str, *, lab: Lab | None = None) -> Fault:
        """Kills a unit, all units of a cluster or of a role; returns once the control plane has dropped them.

        Raises:
            UnknownError: the control plane has not dropped them in time.
        """
        fault = self.inject("kill", target, lab=lab)
        self.see(
            f"{target} is dropped by the control plane",
            lambda: fault.observe().figures.get("known_to_the_control_plane"),
            within=SEEN_WITHIN,
            until=lambda known: not known,
        )
        return fault

    @contextmanager
    def fault(self, kind: str, target: str = "", *, lab: Lab | None = None, **settings: Any) -> Iterator[Fault]:
        """Injects a fault for as long as the body runs; see :meth:`inject`."""
        fault = self.inject(kind, target, lab=lab, **settings)
        try:
            yield fault
        finally:
            fault.heal()

    def see_fault(self, fault: Fault) -> None:
        """Waits until a fault's effect is visible; without one the scenario is unknown.

        Raises:
            UnknownError: no effect was seen in time.
        """
        self.see(
            f"{fault.id} of {fault.record.target} can be seen",
            fault.observe,
            within=SEEN_WITHIN,
            until=lambda seen: seen.visible is Visible.YES,
        )

    def saw(self) -> None:
        """Notes that the effect of the faults so far was seen by other means, e.g. in the results of a run."""
        self._seen_ns.append(lab_time_ns())

    def figure(self, name: str, value: str) -> None:
        """Keeps a measured figure for the result and for JUnit, e.g. ``out of rotation``, ``0.3 s``."""
        self.figures[name] = value

    def check_faults_were_seen(self) -> None:
        """Requires that every fault's effect was seen.

        Raises:
            UnknownError: the effect of some was not.
        """
        last_seen = max(self._seen_ns, default=0)
        unseen = [act for act in self.faults() if act.until_ns > last_seen]
        if unseen:
            listed = ", ".join(f"{act.kind} {act.target}" for act in unseen)
            raise UnknownError(f"no effect of {listed} was seen: use scenario.see, or scenario.saw")

    def faults(self) -> list[Event]:
        """Returns the faults since the scenario began."""
        events = [event for lab in self._labs for event in lab_events(lab.folder)]
        return [event for event in events if event.is_fault and event.from_ns >= self._began_ns]

    def runs(self) -> list[Path]:
        """Folders of its runs, in order."""
        return sorted(path.parent for path in self.folder.glob("*/plan.json") if not path.parent.is_symlink())

    def surroundings(self) -> list[tuple[str, str]]:
        """Sections for the message of a failure: steps, states of units, last log lines, and folders.

        Logs come from units that were acted on, that do not run, and that are on the topology's path.
        """
        parts = [("steps", "\n".join(_line(step) for step in self.steps))] if self.steps else []
        for lab in self._labs:
            status = lab.status()
            out = [unit for unit in status.units if unit.state != "running"]
            known = status.control_plane
            states = [f"{unit.name}: {unit.state}" for unit in out] + (
                [] if known else ["the control plane does not answer"]
            )
            running = len(status.units) - len(out)
            parts.append((f"units of lab {lab.name}", "\n".join([*states, f"{running} of {len(status.units)} run"])))
            relevant = {act.target for act in self.faults()} | {unit.name for unit in out} | {"control-plane"}
            roles = TOPOLOGIES[self.topology].roles if self.topology else ()
            others = tuple(f"{each.name}-" for each in status.units if each.role == CALLER and each.name != _CALLER)
            relevant |= {each.name for each in status.units if each.role in roles and not each.name.startswith(others)}
            for name, lines in lab.units.last_log_lines(sorted(relevant), _LOG_LINES).items():
                if lines:
                    parts.append((f"log of {name}", "\n".join(line[:_LOG_WIDTH] for line in lines)))
        return [*parts, ("left behind", "\n".join(str(path) for path in self.runs() or [self.folder]))]

    def finish(self, verdict: str, reason: str) -> dict[str, Any]:
        """Writes the result file and returns its content."""
        result = {
            "module": self.module,
            "name": self.name,
            "case": self.case,
            "topology": self.topology,
            "runtime": self.runtime,
            "verdict": verdict,
            "reason": reason,
            "took_s": round(time.monotonic() - self._began, 2),
            "steps": [asdict(step) for step in self.steps],
            "figures": self.figures,
            "lab": lab_version(),
            "runs": [str(path) for path in self.runs()],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RESULT).write_text(json.dumps(result, indent=1))
        return result

    def properties(self, result: dict[str, Any]) -> list[tuple[str, str]]:
        """The result as JUnit properties."""
        return [
            ("verdict", result["verdict"]),
            *(("step", _line(step)) for step in self.steps),
            *((name, value) for name, value in self.figures.items()),
            *(("run_dir", str(path)) for path in self.runs() or [self.folder]),
        ]

    def _mark(self, kind: str, step: Step) -> None:
        now = lab_time_ns()
        for lab in self._labs:
            event = Event(
                kind=kind,
                target=f"{step.number}.",
                detail=step.title,
                undone_by=STEP_OVER if kind == STEP else "",
                from_ns=now,
                until_ns=now,
            )
            append_event(lab.folder, event)


def _line(step: Step) -> str:
    took = "" if step.took_s is None else f" ({step.took_s:.1f} s)"
    return f"{step.number}. {step.title}{took}{'' if step.ok else ': ' + INVALID}"


def folder_name(module: str, name: str, case: str) -> str:
    """Folder of a scenario below its session's, e.g. ``moves/a_model_moves…,mesh``."""
    claim = name.removeprefix("test_")[:_LONGEST_NAME]
    suffix = re.sub(r"[^A-Za-z0-9.=_-]+", "-", case)[:_LONGEST_NAME]
    return f"{module.removeprefix('test_')}/{claim}{',' + suffix if suffix else ''}"
