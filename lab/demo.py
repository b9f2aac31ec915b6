"""The demonstration: four acts in two minutes, each of which asks a question, measures, and shows the result.

An act that does not show what it claims says so.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lab.checkout import CHECKOUT
from lab.errors import CallError
from lab.report import read_runs, write_album, write_report
from lab.roll import RollOptions, parse_conditions
from lab.runs import LoadOptions, background_load
from lab.waiting import eventually
from services.caller.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from lab.lab import Lab
    from lab.runs import RunResult

TOPOLOGIES = ("direct", "gateway", "mesh")
_ROUTES = CHECKOUT / "routes.yaml"
_BEFORE, _AFTER = "v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-5}"
_FIRST_CALLS = {caller: page[0][0] for caller, page in PAGES.items()}
"""Caller → the use case that it calls first."""
_RECOVERY_TIMEOUT = timedelta(seconds=20)
_SMALL, _LARGE = 400, 4_000_000
_BAR_WIDTH = 50


class Display(Protocol):
    """Shows the demonstration."""

    def act(self, title: str, question: str) -> None:
        """Shows the title and the question of the next act."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        """Shows that ``what`` is under way, for as long as the body runs."""

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows a table of results."""

    def lesson(self, text: str, *, shown: bool) -> None:
        """Shows the conclusion; ``shown`` is false if the results do not support it."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Result of the demonstration.

    Attributes:
        acts: title → whether its results support its claim.
        runs: folders of all runs.
        report: HTML report of these.
        pictures: its charts, PNG files.
    """

    acts: dict[str, bool]
    runs: tuple[Path, ...]
    report: Path
    pictures: tuple[Path, ...]


@dataclass(slots=True)
class _Demo:
    lab: Lab
    display: Display
    runs: list[RunResult] = field(default_factory=list)

    def load(self, options: LoadOptions) -> RunResult:
        result = self.lab.load(options)
        self.runs.append(result)
        return result

    @contextmanager
    def under_load(self, options: LoadOptions) -> Iterator[Callable[[], RunResult]]:
        """Drives load during the body, which starts once requests are answered; yields a function for the run."""
        with background_load(self.lab.load, options) as (run,):
            yield run.result
        self.runs.append(run.result())


def demonstrate(lab: Lab, display: Display, *, runtime: str = "process") -> DemoResult:
    """Brings a lab up, which stays up, and plays all acts on it.

    Raises:
        LabError: the lab did not come up, or an operation on it failed.
    """
    with display.doing("bringing the lab up: real Envoy, real gRPC, five callers, six model clusters"):
        lab.up(topologies=TOPOLOGIES, runtime=runtime)
    demo = _Demo(lab, display)
    acts = {title: act(demo) for title, act in _ACTS.items()}
    with display.doing("writing the report"):
        runs = tuple(run.folder for run in demo.runs)
        read = read_runs(runs)
        report = runs[0].parent / "demo.html"
        write_report(read, report)
        pictures = tuple(write_album(read, [], report.with_suffix("")))
    return DemoResult(acts, runs, report, pictures)


def _name_the_use_case(demo: _Demo) -> bool:
    demo.display.act(
        "Name the use case, not the endpoint",
        "A model moves to another cluster under load, once per topology. Which callers notice?",
    )
    rows, wrong = [], {}
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / "routes.yaml"
        moved.write_text(_ROUTES.read_text().replace(_BEFORE, _AFTER))
        for topology in TOPOLOGIES:
            options = LoadOptions(
                topology=topology,
                caller="homepage",
                use_cases=("ContinueWatchingRanking",),
                contexts={"device": ("phone",)},
                rate=200,
                duration_s=4,
            )
            with demo.display.doing(f"{topology}: 200 requests/s, and the model moves"):
                with demo.under_load(options) as result:
                    demo.lab.routes.publish(moved, comment="the model moves")
                    summary = result().summary
                demo.lab.routes.publish(_ROUTES, comment="and back")
            wrong[topology] = summary.failed + (result().misrouted or 0)
            how = "a hard-coded address" if topology == "direct" else "the name of the use case"
            rows.append((topology, how, f"{summary.ok}", f"{wrong[topology]}"))
    demo.display.table(("topology", "what the caller knows", "answered", "failed or wrong"), rows)
    shown = wrong["direct"] > 0 and wrong["gateway"] == wrong["mesh"] == 0
    demo.display.lesson(
        "Callers that name the use case do not notice. Callers with a hard-coded address break.", shown=shown
    )
    return shown


def _keep_the_path_thin(demo: _Demo) -> bool:
    demo.display.act(
        "Keep the critical path thin",
        "The gateway parses every payload; the sidecar reads one header. What does that cost, and at which size?",
    )
    p50 = {}
    for size, rate in ((_SMALL, 100.0), (_LARGE, 8.0)):
        for topology in TOPOLOGIES:
            options = LoadOptions(
                topology=topology,
                caller="playback",
                arrivals="constant",
                rate=rate,
                duration_s=4,
                payload_bytes=size,
            )
            with demo.display.doing(f"{topology}: {_size(size)} at {rate:g} requests/s"):
                p50[topology, size] = demo.load(options).summary.p50_ms
    for size in (_SMALL, _LARGE):
        longest = max(p50[each, size] for each in TOPOLOGIES)
        demo.display.table(
            ("topology", f"{_size(size)}: p50, ms", ""),
            [
                (each, f"{p50[each, size]:.2f}", "█" * max(1, round(_BAR_WIDTH * p50[each, size] / longest)))
                for each in TOPOLOGIES
            ],
        )
    shown = p50["mesh", _LARGE] < p50["gateway", _LARGE]
    demo.display.lesson(
        "At kilobytes the difference is small. At megabytes every parse and every copy costs time.", shown=shown
    )
    return shown


def _break_things(demo: _Demo) -> bool:
    demo.display.act(
        "The failure of a shared unit reaches every caller",
        "Both gateways are killed, then one sidecar. Which of five callers still get answers?",
    )
    rows = []
    hit = {}
    for topology, victims in (("gateway", ("gateway-1", "gateway-2")), ("mesh", ("homepage-sidecar",))):
        with demo.display.doing(f"killing {' and '.join(victims)}"):
            for victim in victims:
                demo.lab.units.kill(victim)
            hit[topology] = _cut_off(demo.lab, topology)
            for victim in victims:
                demo.lab.units.start(victim)
            eventually(
                f"{topology} answers every caller again",
                partial(_cut_off, demo.lab, topology),
                within=_RECOVERY_TIMEOUT,
                until=lambda callers: not callers,
            )
        callers = hit[topology]
        rows.append((topology, " and ".join(victims), f"{len(callers)} of {len(_FIRST_CALLS)}", ", ".join(callers)))
    demo.display.table(("topology", "killed", "callers cut off", "which"), rows)
    shown = hit == {"gateway": list(_FIRST_CALLS), "mesh": ["homepage"]}
    demo.display.lesson(
        "When gateways fail, every caller fails. When a sidecar fails, only its caller does.", shown=shown
    )
    return shown


def _roll_a_version(demo: _Demo) -> bool:
    demo.display.act(
        "Roll a version out, with evidence at each step",
        "rows@v2 gets 10, then 50, then 100 % of the users, under load. Is any request misrouted?",
    )
    options = RollOptions(
        model="rows",
        to="v2",
        steps=(10, 50, 100),
        hold_s=2.0,
        conditions=parse_conditions("error-rate>5%,misroutes>0"),
        use_case=None,
        force=False,
        probe=LoadOptions(topology="mesh", caller="", rate=200.0, users=10_000),
    )
    with demo.display.doing("rolling out, and judging every answer by an independent reading of the rules"):
        result = demo.lab.roll(options)
        demo.lab.routes.publish(_ROUTES, comment="as before the rollout")
    demo.display.table(
        ("step", "measured share of rows@v2", "requests", "failed", "misrouted"),
        [
            (
                f"{step.percent} %",
                f"{step.share:.1%}",
                f"{step.evidence.new.requests + step.evidence.old.requests}",
                f"{step.evidence.new.errors + step.evidence.old.errors}",
                "unknown" if step.evidence.misroutes is None else f"{step.evidence.misroutes}",
            )
            for step in result.steps
        ],
    )
    shown = result.outcome == "completed" and all(step.evidence.misroutes == 0 for step in result.steps)
    demo.display.lesson("If a step had been bad, the previous route table would be in force again.", shown=shown)
    return shown


_ACTS = {
    "name the use case": _name_the_use_case,
    "keep the path thin": _keep_the_path_thin,
    "break things": _break_things,
    "roll a version": _roll_a_version,
}


def _cut_off(lab: Lab, topology: str) -> list[str]:
    return [caller for caller, use_case in _FIRST_CALLS.items() if not _answered(lab, topology, caller, use_case)]


def _answered(lab: Lab, topology: str, caller: str, use_case: str) -> bool:
    try:
        lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})
    except CallError:
        return False
    return True


def _size(size: int) -> str:
    return "0.4 KB" if size == _SMALL else "4 MB"
