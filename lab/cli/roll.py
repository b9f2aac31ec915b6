"""``lab roll``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from lab.cli.options import Json, Name, Topology
from lab.cli.output import console, print_json, progress_console, quiet, say, table
from lab.errors import InputError
from lab.lab import Lab
from lab.roll import DEFAULT_CONDITIONS, Outcome, RollOptions, parse_conditions
from lab.runs import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.roll import Held, RollProgress, RollResult

_STYLES = {"met": "bold red", "not met": "green", "unknown": "yellow"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(roll)


def roll(
    model: Annotated[str, typer.Argument(help="Whose traffic, e.g. cw-ranker.")],
    to: Annotated[str, typer.Option("--to", help="The version that is to get it, e.g. v2.")],
    steps: Annotated[str, typer.Option(help="Percents of the new version, rising to 100.")] = "1,10,50,100",
    hold: Annotated[
        float, typer.Option(min=1.0, help="Seconds for which each step is looked at; longer if too little is seen.")
    ] = 10.0,
    abort_on: Annotated[str, typer.Option(help="What breaks it off and takes it back.")] = DEFAULT_CONDITIONS,
    use_case: Annotated[str | None, typer.Option(help="Roll in this one alone.")] = None,
    caller: Annotated[str, typer.Option(help="In whose name to probe; whoever may ask if left out.")] = "",
    topology: Topology = "mesh",
    rate: Annotated[float, typer.Option(min=1.0, help="Requests per second of the probe.")] = 200.0,
    force: Annotated[bool, typer.Option("--force", help="Go on where too few requests were seen to say.")] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Shift a model's traffic to another version in steps; goes back by itself, exit status 1, if that is bad.

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
    with _shown(as_json=as_json) as progress:
        result = Lab(name).roll(options, progress=progress)
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
        raise InputError(f"--steps: {text!r} is no list of percents; write e.g. 1,10,50,100") from None


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[RollProgress], None]]:
    if as_json:
        yield quiet
        return
    with progress_console.status("looking at the route table") as status:
        yield lambda progress: _tell(progress, status)


def _tell(progress: RollProgress, status: Status) -> None:
    if progress.held is not None:
        say(_line(progress.held))
        return
    load = progress.load
    how = f": {load.done} done, {load.failed} failed, {load.remaining_s or 0:.0f} s left" if load else ""
    status.update(f"{progress.percent:3} %  {progress.doing}{how}")
    if not progress_console.is_terminal and load is None:
        say(f"{progress.percent:3} %  {progress.doing}")


def _line(held: Held) -> str:
    seen = held.seen
    verdicts = ", ".join(f"{each.condition} [{_STYLES[each.standing]}]{each.standing}[/]" for each in held.judgements)
    return (
        f"{held.percent:3} %  revision {held.revision}, {held.share:.1%} seen of "
        f"{seen.new.requests + seen.old.requests} requests: {verdicts}"
    )


def _finish(result: RollResult) -> None:
    rows = [
        (
            f"{held.percent} %",
            held.revision,
            f"{held.share:.1%}",
            held.seen.new.requests,
            held.seen.new.errors,
            f"{held.seen.new.p99_ms:.2f}",
            f"{held.seen.old.p99_ms:.2f}",
            "" if held.seen.misroutes is None else held.seen.misroutes,
        )
        for held in result.steps
    ]
    headings = ("step", "revision", "share seen", "requests", "failed", "p99 ms", "p99 ms before", "misrouted")
    if rows:
        console.print(table(headings, rows, right=headings))
    for text in result.left_alone:
        console.print(text, markup=False)
    if result.outcome is Outcome.COMPLETED:
        console.print(f"{result.model} is at {result.to}, revision {result.revision}")
    else:
        console.print(f"roll {result.outcome}: {result.reason}; revision {result.revision} is in force", markup=False)
