"""One scenario that is under way: its steps, what was seen of its faults, and the folder that it leaves."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lab.errors import DeadlineError
from lab.faults import Visible
from lab.runs.events import FAULTS, STEP, STEP_OVER, Act, read_acts, write_act
from lab.runs.folder import judged_before
from lab.waiting import eventually
from scenarios.framework.catalogue import RESULT
from scenarios.framework.verdicts import INVALID, VALID, UnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.faults import Fault
    from lab.lab import Lab

T = TypeVar("T")

HARMS = ("kill", "pause", "partition", *FAULTS)
"""Acts whose effect somebody has to see, else nothing was tried."""

SEEN_WITHIN = timedelta(seconds=10)

_LOG_LINES, _LOG_WIDTH = 5, 300
_LONGEST_NAME = 120


class Teller(Protocol):
    """Shows how a scenario goes."""

    def begin(self, title: str) -> None:
        """A scenario begins."""

    def step(self, number: int, title: str) -> None:
        """One of its steps begins."""

    def step_over(self, *, ok: bool, took_s: float) -> None:
        """That step ends."""

    def end(self, word: str = "") -> None:
        """The scenario is over, and this is to be said of it."""

    def close(self) -> None:
        """So are all."""


@dataclass(slots=True)
class Step:
    """One step; ``took_s`` is None while it is under way, and ``ok`` once it has not failed."""

    number: int
    title: str
    ok: bool = False
    took_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Scenario:
    """What a scenario's function has at hand, as the fixture ``scenario``.

    Attributes:
        lab: it runs against.
        folder: what it leaves: its runs, each in a folder of its own, and :data:`RESULT`.
        module: where it stands.
        name: of its function.
        case: its parameters as pytest writes them, empty if it has none.
        topology: of this case; empty if it takes several at once.
        runtime: on which the lab runs.
        teller: shows its steps.
    """

    lab: Lab
    folder: Path
    module: str
    name: str
    case: str
    topology: str
    runtime: str
    teller: Teller
    steps: list[Step] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    _labs: list[Lab] = field(default_factory=list)
    _seen_ns: list[int] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _began_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.watch(self.lab)

    def watch(self, lab: Lab) -> None:
        """Lets another lab's runs go into this scenario's folder, with the steps on their time line."""
        self._labs.append(lab)
        lab.runs = self.folder

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """The next step: what is done, in the imperative. It is shown, and marked on the time line of runs."""
        step = Step(len(self.steps) + 1, title)
        self.steps.append(step)
        began = time.monotonic()
        self._mark(STEP, step)
        self.teller.step(step.number, title)
        try:
            yield
            step.ok = True
        finally:
            step.took_s = round(time.monotonic() - began, 3)
            self._mark(STEP_OVER, step)
            self.teller.step_over(ok=step.ok, took_s=step.took_s)

    def see(self, what: str, probe: Callable[[], T], *, within: timedelta, until: Callable[[T], bool] = bool) -> T:
        """Waits for the effect of the faults so far; without one the scenario is unknown. As ``eventually`` otherwise.

        Raises:
            UnknownError: there was none in time.
        """
        try:
            found = eventually(what, probe, within=within, until=until)
        except DeadlineError as error:
            raise UnknownError(f"the fault had no visible effect: {error}") from None
        self.saw()
        return found

    def inject(self, kind: str, target: str = "", *, lab: Lab | None = None, **settings: Any) -> Fault:
        """Injects a fault of :mod:`lab.faults.registry`, and returns it once it sees its own effect.

        Args:
            kind: e.g. ``kill``.
            target: what it is aimed at.
            lab: which it is done to; the scenario's own if left out.
            settings: see :meth:`lab.lab.Lab.inject`.

        Raises:
            UnknownError: it has no effect that it can be seen by.
        """
        fault = (lab or self.lab).inject(kind, target, **settings)
        self.see_fault(fault)
        return fault

    def kill(self, target: str, *, lab: Lab | None = None) -> Fault:
        """Kills one unit, all of a cluster or all of a role; returns once nobody counts on any of them any longer.

        Raises:
            UnknownError: that does not come about.
        """
        fault = self.inject("kill", target, lab=lab)
        self.see(
            f"{target} is missed",
            lambda: fault.observe().figures.get("known_to_the_control_plane"),
            within=SEEN_WITHIN,
            until=lambda known: not known,
        )
        return fault

    @contextmanager
    def fault(self, kind: str, target: str = "", *, lab: Lab | None = None, **settings: Any) -> Iterator[Fault]:
        """As :meth:`inject`, and heals it when the body is over."""
        fault = self.inject(kind, target, lab=lab, **settings)
        try:
            yield fault
        finally:
            fault.heal()

    def see_fault(self, fault: Fault) -> None:
        """Waits until a fault sees its own effect; without one the scenario is unknown.

        Raises:
            UnknownError: there was none in time.
        """
        self.see(
            f"{fault.id} of {fault.record.target} can be seen",
            fault.observe,
            within=SEEN_WITHIN,
            until=lambda seen: seen.visible is Visible.YES,
        )

    def saw(self) -> None:
        """The effect of the faults so far was seen by other means: in what the requests of a run came to, say."""
        self._seen_ns.append(time.time_ns())

    def figure(self, name: str, value: str) -> None:
        """Keeps something measured, for the result and for JUnit: ``out of rotation``, ``0.3 s``."""
        self.figures[name] = value

    def check_faults_were_seen(self) -> None:
        """What was done to units and had no effect that anybody saw has tried nothing.

        Raises:
            UnknownError: there was such an act.
        """
        last_seen = max(self._seen_ns, default=0)
        unseen = [act for act in self.faults() if act.until_ns > last_seen]
        if unseen:
            listed = ", ".join(f"{act.kind} {act.target}" for act in unseen)
            raise UnknownError(f"nobody saw an effect of {listed}: take scenario.see, or scenario.saw")

    def faults(self) -> list[Act]:
        """What was done to units since it began, without what undoes it."""
        acts = [act for lab in self._labs for act in read_acts(lab.folder)]
        return [act for act in acts if act.kind in HARMS and act.from_ns >= self._began_ns]

    def runs(self) -> list[Path]:
        """Folders of its runs, in order."""
        return sorted(path.parent for path in self.folder.glob("*/plan.json") if not path.parent.is_symlink())

    def late(self) -> str:
        """What is said of a driver of its runs that did not send as it should have; empty if all did."""
        runs = (judged_before(folder) for folder in self.runs())
        verdicts = (verdict for run in runs if run for verdict in run.verdicts)
        return next((each.summary for each in verdicts if each.checker == "driver" and each.outcome != VALID), "")

    def surroundings(self) -> list[tuple[str, str]]:
        """For the message of a failure: its steps, how units are, what those that matter said last, where to look.

        Those matter that something was done to, that do not run, and those that the way to the models goes through.
        """
        parts = [("steps", "\n".join(_line(step) for step in self.steps))] if self.steps else []
        for lab in self._labs:
            status = lab.status()
            out = [unit for unit in status.units if unit.state != "running"]
            known = status.control_plane
            states = [f"{unit.name}: {unit.state}" for unit in out] + (
                [] if known else ["no word of the control plane"]
            )
            running = len(status.units) - len(out)
            parts.append((f"units of lab {lab.name}", "\n".join([*states, f"{running} of {len(status.units)} run"])))
            roles = {"gateway": {"gateway"}, "gateway-passthrough": {"gateway"}, "gateway-header": {"central-envoy"}}
            matter = {act.target for act in self.faults()} | {unit.name for unit in out} | {"control-plane"}
            matter |= {unit.name for unit in status.units if unit.role in roles.get(self.topology, set())}
            if self.topology in {"mesh", "proxyless", "gateway-header"}:
                matter |= {"homepage-sidecar", "homepage-resolver"}
            for name, lines in lab.tail(sorted(matter), _LOG_LINES).items():
                if lines:
                    parts.append((f"log of {name}", "\n".join(line[:_LOG_WIDTH] for line in lines)))
        return [*parts, ("left behind", "\n".join(str(path) for path in self.runs() or [self.folder]))]

    def finish(self, verdict: str, reason: str) -> dict[str, Any]:
        """Writes down what came of it, and returns that."""
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
            "runs": [str(path) for path in self.runs()],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RESULT).write_text(json.dumps(result, indent=1))
        return result

    def properties(self, result: dict[str, Any]) -> list[tuple[str, str]]:
        """The same for JUnit."""
        return [
            ("verdict", result["verdict"]),
            *(("step", _line(step)) for step in self.steps),
            *((name, value) for name, value in self.figures.items()),
            *(("run_dir", str(path)) for path in self.runs() or [self.folder]),
        ]

    def _mark(self, kind: str, step: Step) -> None:
        now = time.time_ns()
        for lab in self._labs:
            write_act(
                lab.folder, Act(kind=kind, target=f"{step.number}.", detail=step.title, from_ns=now, until_ns=now)
            )


def _line(step: Step) -> str:
    took = "" if step.took_s is None else f" ({step.took_s:.1f} s)"
    return f"{step.number}. {step.title}{took}{'' if step.ok else ': ' + INVALID}"


def folder_name(module: str, name: str, case: str) -> str:
    """Where a scenario leaves things, below its session's folder: ``moves/a_model_moves…,mesh``."""
    claim = name.removeprefix("test_")[:_LONGEST_NAME]
    told = re.sub(r"[^A-Za-z0-9.=_-]+", "-", case)[:_LONGEST_NAME]
    return f"{module.removeprefix('test_')}/{claim}{',' + told if told else ''}"
