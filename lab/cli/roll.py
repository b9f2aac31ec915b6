"""``lab roll``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status

from lab.bounds import RATE, SECONDS
from lab.cli.options import DEFAULT_TOPOLOGY, Json, Name, Topology
from lab.cli.output import console, print_json, progress_console, say, table
from lab.errors import InputError
from lab.lab import Lab
from lab.ops.roll.conditions import DEFAULT_CONDITIONS, Judgement, Standing, parse_conditions
from lab.ops.roll.executor import Outcome, RollOptions, RollProgress, RollResult, StepResult
from lab.runs import LoadOptions

_FIGURES = ("requests", "old requests", "failed", "p99 ms", "old p99 ms", "misrouted")
_MARKS = {"met": "[bold red]ABORT[/]", "not met": "[green]OK[/]", "unknown": "[yellow]unknown[/]"}
_NO_WORSE = "[yellow]no worse[/]"  # over the limit, like what it is compared with


def roll(
    model: Annotated[str, typer.Argument(help="Model to roll out, e.g. cw-ranker.")],
    to: Annotated[str, typer.Option("--to", help="Target version, e.g. v2.")],
    steps: Annotated[
        str, typer.Option(help="Traffic share of the new version at each step, in percent, ending at 100.")
    ] = "1,10,50,100",
    hold: Annotated[
        float,
        typer.Option(
            min=1.0, max=SECONDS.high, help="Minimum seconds for each step; longer until there is enough evidence."
        ),
    ] = 10.0,
    abort_on: Annotated[
        str,
        typer.Option(
            help="Abort and roll back when any of these holds.",
            show_default=DEFAULT_CONDITIONS.replace(",", ", "),  # so that a narrow window need not cut it
        ),
    ] = DEFAULT_CONDITIONS,
    use_case: Annotated[str | None, typer.Option(help="Change this use case only.")] = None,
    caller: Annotated[
        str, typer.Option(help="Caller identity for the probes; by default any caller that the route table allows.")
    ] = "",
    topology: Topology = DEFAULT_TOPOLOGY,
    rate: Annotated[float, typer.Option(min=1.0, max=RATE.high, help="Requests per second of the probes.")] = 200.0,
    force: Annotated[bool, typer.Option("--force", help="Continue even if a condition stays undecided.")] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Shift a model's traffic to another version in steps, and roll back if a step is bad.

    The probes choose users such that the new and the old version get equally many requests at every step. A step lasts
    until there are enough to notice a version that is five times worse than a limit. Exit status 1 if it was rolled
    back or stopped.

    Example: lab roll cw-ranker --to v2 --steps 1,10,50,100 --hold 10 --abort-on "error-rate>1%,misroutes>0"
    """
    options = RollOptions(
        model=model,
        to=to,
        steps=_percents(steps),
        hold_s=hold,
        conditions=parse_conditions(abort_on),
        use_case=use_case,
        force=force,
        probe=LoadOptions(topology=topology, caller=caller, rate=rate, users=10_000),
    )
    with progress_console.status("reading the route table") as status:
        result = Lab(name).roll(options, progress=lambda progress: _tell(progress, status))
    if as_json:
        print_json(result.to_document())
    else:
        _finish(result)
    if result.outcome is not Outcome.COMPLETED:
        raise typer.Exit(1)


def _percents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--steps: {text!r} is not a list of percentages; write e.g. 1,10,50,100") from None


def _tell(progress: RollProgress, status: Status) -> None:
    if progress.result is not None:
        say(_line(progress.result))
        return
    if progress.warning:
        say(f"[yellow]warning:[/yellow] {escape(progress.warning)}")
        return
    load = progress.load
    how = f": {load.done} done, {load.failed} failed, {load.remaining_s or 0:.0f} s left" if load else ""
    status.update(f"{progress.percent:3} %  {progress.doing}{how}")
    if not progress_console.is_terminal and load is None:
        say(f"{progress.percent:3} %  {progress.doing}")


def _line(step: StepResult) -> str:
    verdicts = "".join(f"\n         {_mark(each)}: {each}" for each in step.judgements)
    return f"{step.percent:3} %  revision {step.revision}, measured share {step.share:.1%} of {step.drawn}{verdicts}"


def _mark(judgement: Judgement) -> str:
    is_no_worse = judgement.standing is Standing.NOT_MET and judgement.found.over
    return _NO_WORSE if is_no_worse else _MARKS[judgement.standing]


def _finish(result: RollResult) -> None:
    rows = [
        (
            f"{step.percent} %",
            step.revision,
            f"{step.share:.1%}",
            step.evidence.new.requests,
            old.requests,
            step.evidence.new.errors,
            *(f"{each.p99_ms:.2f}" if each.latencies_ms else "" for each in (step.evidence.new, old)),
            "" if step.evidence.misroutes is None else step.evidence.misroutes,
        )
        for step in result.steps
        for old in [(step.evidence.before or step.evidence).old]
    ]
    if rows:
        headings = ("step", "revision", "measured share", *_FIGURES)
        console.print(table(headings, rows, right=headings))
    for text in result.left_alone:
        console.print(text, markup=False)
    if result.outcome is Outcome.COMPLETED:
        console.print(f"{result.model} is at {result.to}, revision {result.revision}")
    else:
        console.print(f"roll {result.outcome}: {result.reason}; revision {result.revision} is in force", markup=False)
