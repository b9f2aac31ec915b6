"""``lab demo``: four acts in two minutes, each of which asks a question, measures, and shows the result.

An act that does not show what it claims says so, and the last lines say which figures to trust.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel

from lab import FILES
from lab.checkers import Claim, Outcome
from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_console, table
from lab.cli.progress import milliseconds
from lab.errors import CallError
from lab.lab import Lab
from lab.ops.roll.conditions import parse_conditions
from lab.ops.roll.executor import RollOptions
from lab.report import read_runs, write_album, write_report
from lab.runs import LoadOptions, RunResult, background_load
from lab.waiting import eventually
from services.caller.pages import PAGES

_TOPOLOGIES = ("direct", "gateway", "mesh")
_ROUTES = FILES / "routes.yaml"
_BEFORE, _AFTER = "v1: {cluster: ml-cluster-1}", "v1: {cluster: ml-cluster-5}"
_FIRST_CALLS = {caller: page[0][0] for caller, page in PAGES.items()}
"""Caller → the use case that it calls first."""
_RECOVERY_TIMEOUT = timedelta(seconds=20)
_TRIES = 5
_SMALL, _LARGE = 400, 4_000_000
_BAR_WIDTH, _WIDTH = 36, 100


def demo(
    runtime: Annotated[str, typer.Option(help="process, compose, or auto.")] = "process",
    pause: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait after each act, for reading.")] = 4.0,
    name: Annotated[
        str, typer.Option("--name", help="Name of the lab that it brings up, and takes down at the end.")
    ] = "demo",
    as_json: Json = False,
) -> None:
    """Demonstrate the lab in two minutes, without input, on its own lab; writes a report and its charts.

    Exit status 1 if an act did not show what it claims.

    Example: lab demo
    """
    demo = _Demo(Lab(name), pause)
    try:
        with demo.doing("bringing the lab up: real Envoy, real gRPC, five callers, six model clusters"):
            demo.lab.up(topologies=_TOPOLOGIES, runtime=runtime)
        acts = {title: act(demo) for title, act in _ACTS.items()}
        with demo.doing("writing the report"):
            runs = [run.folder for run in demo.runs]
            read = read_runs(runs)
            report = runs[0].parent / "demo.html"
            write_report(read, report)
            pictures = write_album(read, [], report.with_suffix(""))
    finally:
        with demo.doing("taking the lab down"):
            demo.lab.down()
    if as_json:
        paths = {
            "runs": [str(each) for each in runs],
            "report": str(report),
            "pictures": [str(each) for each in pictures],
        }
        print_json({"acts": acts, **paths})
    else:
        console.print("\n[bold]The report, from the records of all requests[/bold]")
        console.print(f"  {report}", markup=False)
        console.print(f"  {report.with_suffix('')}: {len(pictures)} charts, as PNG", markup=False)
        console.print(f"\n{demo.trust()}", markup=False)
    if not all(acts.values()):
        raise typer.Exit(1)


@dataclass(slots=True)
class _Demo:
    """The lab on which the acts are played, and its runs so far."""

    lab: Lab
    pause_s: float
    acts: int = 0
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

    def act(self, title: str, question: str) -> None:
        self.acts += 1
        heading = f"[bold]{self.acts}. {title}[/bold]"
        console.print()
        console.print(Panel(question, title=heading, title_align="left"), width=_WIDTH, soft_wrap=False)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Shows that this is under way, for as long as the body runs."""
        if not progress_console.is_terminal:
            progress_console.print(f"[dim]·[/dim] {what}")
            yield
            return
        with progress_console.status(what):
            yield

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        console.print(Padding(table(headings, rows), (0, 2)), width=_WIDTH, soft_wrap=False)

    def late(self, first: int = 0) -> int:
        """Number of runs, from this one on, whose driver was late."""
        return sum(run.claims[Claim.TIMING] is not Outcome.VALID for run in self.runs[first:])

    def trust(self) -> str:
        """Which of the figures to trust, in words."""
        late = self.late()
        counts = "Trust the counts: every answer was judged by an independent reading of the rules."
        if not late:
            return f"{counts} Trust the milliseconds, too: the driver was in time."
        return (
            f"{counts} Do not trust the milliseconds: in {late} of {len(self.runs)} runs the driver was late, because "
            "this machine was busy. Run `lab demo` again on a quiet one."
        )

    def lesson(self, text: str, *, shown: bool, doubt: str = "") -> bool:
        """Prints the conclusion, perhaps with a doubt, or that the results do not support it; returns which."""
        sign = f"[yellow]in doubt ({doubt}):[/yellow]" if doubt else "[green]✓[/green]"
        sign = sign if shown else f"[bold red]not shown this time{f' ({doubt})' if doubt else ''}:[/bold red]"
        console.print()
        console.print(Padding(f"{sign} {escape(text)}", (0, 2)), width=_WIDTH, soft_wrap=False)
        if progress_console.is_terminal:
            time.sleep(self.pause_s)
        return shown


def _name_the_use_case(demo: _Demo) -> bool:
    demo.act(
        "Name the use case, not the endpoint",
        "A model moves to another cluster under load, once per topology. Which callers notice?",
    )
    rows, wrong, late = [], {}, 0
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / "routes.yaml"
        moved.write_text(_ROUTES.read_text().replace(_BEFORE, _AFTER))
        for topology in _TOPOLOGIES:
            options = LoadOptions(
                topology=topology,
                caller="homepage",
                use_cases=("ContinueWatchingRanking",),
                contexts={"device": ("phone",)},
                rate=100,
                duration_s=4,
            )
            with demo.doing(f"{topology}: 100 requests/s, and the model moves"):
                with demo.under_load(options) as result:
                    demo.lab.routes.publish(moved, comment="the model moves")
                    run = result()
                demo.lab.routes.publish(_ROUTES, comment="and back")
            counts = run.counts
            in_time = run.claims[Claim.TIMING] is Outcome.VALID
            missed = 0 if in_time else run.summary.by_status.get(grpc.StatusCode.DEADLINE_EXCEEDED.name, 0)
            wrong[topology] = counts.wrong + counts.failed - missed
            late += missed
            how = "a hard-coded address" if topology == "direct" else "the name of the use case"
            rows.append((topology, how, *(f"{count}" for count in (counts.sent, *counts[:3]))))
    demo.table(("topology", "what the caller knows", "requests", "right", "wrong", "failed"), rows)
    shown = wrong["direct"] > 0 and wrong["gateway"] == wrong["mesh"] == 0
    return demo.lesson(
        "Callers that name the use case do not notice. Callers with a hard-coded address break.",
        shown=shown,
        doubt=f"{late} requests missed their timeouts, and this machine was busy" if late else "",
    )


def _keep_the_path_thin(demo: _Demo) -> bool:
    demo.act(
        "Keep the critical path thin",
        "The gateway parses every payload; the sidecar reads one header. What does that cost, and at which size?",
    )
    p50, first = {}, len(demo.runs)
    for size, rate in ((_SMALL, 100.0), (_LARGE, 8.0)):
        for topology in _TOPOLOGIES:
            options = LoadOptions(
                topology=topology,
                caller="playback",
                arrivals="constant",
                rate=rate,
                duration_s=4,
                payload_bytes=size,
            )
            with demo.doing(f"{topology}: {_size(size)} at {rate:g} requests/s"):
                p50[topology, size] = demo.load(options).summary.p50_ms
    for size in (_SMALL, _LARGE):
        if size != _SMALL:
            console.print()
        longest = max(p50[each, size] for each in _TOPOLOGIES) or 1.0  # ms; without an answer there is none
        demo.table(
            ("topology", f"{_size(size)}: p50, ms", ""),
            [
                (each, milliseconds(p50[each, size]), "█" * math.ceil(_BAR_WIDTH * (p50[each, size] / longest)))
                for each in _TOPOLOGIES
            ],
        )
    shown = 0 < p50["mesh", _LARGE] < p50["gateway", _LARGE]
    return demo.lesson(
        "At kilobytes the difference is small. At megabytes every parse and every copy costs time.",
        shown=shown,
        doubt="this machine was busy, which may explain the bars" if demo.late(first) else "",
    )


def _break_things(demo: _Demo) -> bool:
    demo.act(
        "The failure of a shared unit reaches every caller",
        "Both gateways are killed, then one sidecar. Which of five callers still get answers?",
    )
    rows = []
    hit = {}
    for topology, victims in (("gateway", ("gateway-1", "gateway-2")), ("mesh", ("homepage-sidecar",))):
        with demo.doing(f"killing {' and '.join(victims)}"):
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
        rows.append((topology, " and ".join(victims), f"{len(callers)} of {len(_FIRST_CALLS)}", _named(callers)))
    demo.table(("topology", "killed", "callers cut off", "which"), rows)
    shown = hit == {"gateway": list(_FIRST_CALLS), "mesh": ["homepage"]}
    return demo.lesson(
        "When gateways fail, every caller fails. When a sidecar fails, only its caller does.", shown=shown
    )


def _roll_a_version(demo: _Demo) -> bool:
    demo.act(
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
        probe=LoadOptions(topology="mesh", caller="", rate=100.0, users=10_000),
    )
    with demo.doing("rolling out, and judging every answer by an independent reading of the rules"):
        result = demo.lab.roll(options)
        demo.lab.routes.publish(_ROUTES, comment="as before the rollout")
    demo.table(
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
    failed = sum(step.evidence.new.errors + step.evidence.old.errors for step in result.steps)
    late = any(step.evidence.late for step in result.steps)
    return demo.lesson(
        "If a step had been bad, the previous route table would be in force again.",
        shown=shown,
        doubt=f"{failed} requests failed, with either version, and this machine was busy" if failed and late else "",
    )


_ACTS = {
    "name the use case": _name_the_use_case,
    "keep the path thin": _keep_the_path_thin,
    "break things": _break_things,
    "roll a version": _roll_a_version,
}


def _named(callers: Sequence[str]) -> str:
    """The callers, short enough for a row of the table."""
    return "all" if len(callers) == len(_FIRST_CALLS) else ", ".join(callers)


def _cut_off(lab: Lab, topology: str) -> list[str]:
    return [caller for caller, use_case in _FIRST_CALLS.items() if not _answered(lab, topology, caller, use_case)]


def _answered(lab: Lab, topology: str, caller: str, use_case: str) -> bool:
    """Whether a caller gets an answer; what is only too late for its timeout, on a busy machine, is asked again."""
    for _ in range(_TRIES):
        try:
            lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})
        except CallError as error:
            if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                return False
        else:
            return True
    return False


def _size(size: int) -> str:
    return "0.4 KB" if size == _SMALL else "4 MB"
