"""The whole story in two minutes, on a lab of its own: each act asks, does it for real, and says what was seen.

An act that does not show what it is there to show says so: a demonstration that always succeeds would prove nothing.
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
_HOME, _ELSEWHERE = "v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-5}"
_ASKS = {caller: page[0][0] for caller, page in PAGES.items()}
"""The five callers, each with what it asks for first."""
_PATIENCE = timedelta(seconds=20)
_SMALL, _LARGE = 400, 4_000_000
_MS = "p50, ms"
_BAR = 50


class Stage(Protocol):
    """Where the demonstration is shown."""

    def act(self, title: str, question: str) -> None:
        """A new act begins."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        """Something that takes a while."""

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """What was seen."""

    def lesson(self, text: str, *, shown: bool) -> None:
        """What follows from it; ``shown`` is false if the act did not show it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration has shown.

    Attributes:
        acts: title → whether what was claimed was seen.
        runs: folders of the evidence.
        report: the file that shows it.
        pictures: its charts.
    """

    acts: dict[str, bool]
    runs: tuple[Path, ...]
    report: Path
    pictures: tuple[Path, ...]


@dataclass(slots=True)
class _Story:
    lab: Lab
    stage: Stage
    runs: list[RunResult] = field(default_factory=list)

    def load(self, options: LoadOptions) -> RunResult:
        result = self.lab.load(options)
        self.runs.append(result)
        return result

    @contextmanager
    def under_load(self, options: LoadOptions) -> Iterator[Callable[[], RunResult]]:
        """The body runs once requests are answered, and gets the run when it asks for it."""
        with background_load(self.lab.load, options) as (run,):
            yield run.result
        self.runs.append(run.result())


def demonstrate(lab: Lab, stage: Stage, *, runtime: str = "process") -> Shown:
    """Tells the story on a lab, which is brought up first and stays up.

    Raises:
        LabError: the lab did not come up, or a part of it did not do as asked.
    """
    with stage.doing("standing the lab up: real Envoy, real gRPC, five callers, six model clusters"):
        lab.up(topologies=TOPOLOGIES, runtime=runtime)
    story = _Story(lab, stage)
    acts = {title: act(story) for title, act in _ACTS.items()}
    with stage.doing("drawing"):
        runs = tuple(run.folder for run in story.runs)
        read = read_runs(runs)
        report = runs[0].parent / "demo.html"
        write_report(read, report)
        pictures = tuple(write_album(read, [], report.with_suffix("")))
    return Shown(acts, runs, report, pictures)


def _name_the_use_case(story: _Story) -> bool:
    story.stage.act(
        "Name the use case, not the endpoint",
        "A model moves to another cluster while three callers ask for it. Who notices?",
    )
    rows, wrong = [], {}
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / "routes.yaml"
        moved.write_text(_ROUTES.read_text().replace(_HOME, _ELSEWHERE))
        for topology in TOPOLOGIES:
            options = LoadOptions(
                topology=topology,
                caller="homepage",
                use_cases=("ContinueWatchingRanking",),
                contexts={"device": ("phone",)},
                rate=200,
                duration_s=4,
            )
            with story.stage.doing(f"{topology}: 200 requests/s, and the model moves"):
                with story.under_load(options) as result:
                    story.lab.routes.publish(moved, comment="the model moves")
                    summary = result().summary
                story.lab.routes.publish(_ROUTES, comment="and back")
            wrong[topology] = summary.failed + (result().misrouted or 0)
            how = "an address in the code" if topology == "direct" else "the name of the use case"
            rows.append((topology, how, f"{summary.ok}", f"{wrong[topology]}"))
    story.stage.table(("topology", "what the caller knows", "answered", "failed or wrong"), rows)
    shown = wrong["direct"] > 0 and wrong["gateway"] == wrong["mesh"] == 0
    story.stage.lesson(
        "Whoever names the use case does not notice. Whoever wrote the address down breaks.", shown=shown
    )
    return shown


def _keep_the_path_thin(story: _Story) -> bool:
    story.stage.act(
        "Keep the critical path thin",
        "The gateway parses every payload; Envoy beside the caller reads one header. What does that cost, and when?",
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
            with story.stage.doing(f"{topology}: {_size(size)} at {rate:g} requests/s"):
                p50[topology, size] = story.load(options).summary.p50_ms
    for size in (_SMALL, _LARGE):
        longest = max(p50[each, size] for each in TOPOLOGIES)
        story.stage.table(
            ("topology", f"{_size(size)}: {_MS}", ""),
            [
                (each, f"{p50[each, size]:.2f}", "█" * max(1, round(_BAR * p50[each, size] / longest)))
                for each in TOPOLOGIES
            ],
        )
    shown = p50["mesh", _LARGE] < p50["gateway", _LARGE]
    story.stage.lesson(
        "At kilobytes they lie close together. At megabytes every parse and every copy is paid for.", shown=shown
    )
    return shown


def _break_things(story: _Story) -> bool:
    story.stage.act(
        "Who is in the path decides whom a death reaches",
        "Both gateways die. Then one sidecar dies. Which of five callers still get answers?",
    )
    rows = []
    hit = {}
    for topology, victims in (("gateway", ("gateway-1", "gateway-2")), ("mesh", ("homepage-sidecar",))):
        with story.stage.doing(f"killing {' and '.join(victims)}"):
            for victim in victims:
                story.lab.units.kill(victim)
            hit[topology] = _cut_off(story.lab, topology)
            for victim in victims:
                story.lab.units.start(victim)
            eventually(
                f"{topology} answers everybody again",
                partial(_cut_off, story.lab, topology),
                within=_PATIENCE,
                until=lambda who: not who,
            )
        who = hit[topology]
        rows.append((topology, " and ".join(victims), f"{len(who)} of {len(_ASKS)}", ", ".join(who)))
    story.stage.table(("topology", "killed", "callers cut off", "who"), rows)
    shown = hit == {"gateway": list(_ASKS), "mesh": ["homepage"]}
    story.stage.lesson(
        "A gateway fails for everybody. A sidecar fails for the caller that it stands beside.", shown=shown
    )
    return shown


def _roll_a_version(story: _Story) -> bool:
    story.stage.act(
        "Roll a version out, with evidence at each step",
        "rows@v2 gets 10, then 50, then 100 % of the users, under load. Is anybody answered wrongly?",
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
    with story.stage.doing("rolling, and judging every answer by a second reading of the rules"):
        result = story.lab.roll(options)
        story.lab.routes.publish(_ROUTES, comment="as before the roll")
    story.stage.table(
        ("step", "share of rows@v2 seen", "requests", "failed", "misrouted"),
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
    story.stage.lesson("Had one step been bad, the route table from before would be in force again.", shown=shown)
    return shown


_ACTS = {
    "name the use case": _name_the_use_case,
    "keep the path thin": _keep_the_path_thin,
    "break things": _break_things,
    "roll a version": _roll_a_version,
}


def _cut_off(lab: Lab, topology: str) -> list[str]:
    return [caller for caller, use_case in _ASKS.items() if not _answered(lab, topology, caller, use_case)]


def _answered(lab: Lab, topology: str, caller: str, use_case: str) -> bool:
    try:
        lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})
    except CallError:
        return False
    return True


def _size(size: int) -> str:
    return "0.4 KB" if size == _SMALL else "4 MB"
