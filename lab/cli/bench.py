"""``lab bench``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bench.catalogue import BENCHES
from lab.bench.result import State, exit_status
from lab.bench.setting import setting
from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_for, table
from lab.errors import InputError
from lab.lab import CHECKOUT
from lab.runs.folder import folder_of_now, make

if TYPE_CHECKING:
    from lab.bench.result import BenchResult, Claim
    from lab.measure.compare import Interval

_MARKS = {
    State.HOLDS: "[green]holds[/green]",
    State.FAILS: "[bold red]does not hold[/bold red]",
    State.UNKNOWN: "[bold yellow]unknown[/bold yellow]",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(bench)


def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(BENCHES)}; all if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds of each.")] = 10,
    as_json: Json = False,
) -> None:
    """Measure claims about cost against their yardsticks, in a lab of its own.

    Exit status 1 if a claim does not hold; 2 if one is unknown: the driver was late, or the A/A control disagrees.

    Example: lab bench topologies decomposition --rounds 12
    """
    chosen = names or list(BENCHES)
    for name in chosen:
        if name not in BENCHES:
            raise InputError(f"bench {name!r} is not known; there are {', '.join(BENCHES)}")
    say = progress_for(as_json=as_json)
    results = []
    folder = folder_of_now(CHECKOUT / "runs" / "bench")
    make(folder)
    with setting(say) as lab:
        for name in chosen:
            say(f"bench {name}")
            result = BENCHES[name](lab, rounds)
            (folder / f"{name}.json").write_text(json.dumps(result.to_document(), indent=1))
            results.append(result)
    if as_json:
        print_json({"run_dir": str(folder), "benches": [result.to_document() for result in results]})
    else:
        for result in results:
            _show(result)
        console.print(f"\n{folder}", markup=False)
    raise typer.Exit(exit_status(results))


def _show(result: BenchResult) -> None:
    console.print(f"\n[bold]{result.name}[/bold], median over rounds, {result.unit}")
    rows = [(arm, f"{value:.3f}") for arm, value in result.medians().items()]
    console.print(table(("", "median"), rows, right=("median",)))
    for claim in result.claims:
        bound = _bound(claim)
        console.print(f"{claim.text}: {_figure(claim.figure)}{bound and ', '}{bound}: {_MARKS[claim.state]}")
        for doubt in claim.doubts:
            console.print(f"  [yellow]{doubt}[/yellow]")
    for control in result.controls:
        mark = "agrees" if control.can_tell else "[yellow]too few rounds to tell[/yellow]"
        if not control.agrees:
            mark = "[bold white on red] DISAGREES: THE TOOL SEES WHAT IS NOT THERE [/]"
        console.print(f"A/A control, {control.text}: {_figure(control.difference)}: {mark}")
    if paces := result.paces.values():
        late = sum(not pace.kept_up for pace in paces)
        console.print(
            f"driver: achieved ≥ {min(pace.achieved_rate / pace.offered for pace in paces):.1%} of the offered rate, "
            f"schedule delay p99 ≤ {max(pace.schedule_delay_p99_ms for pace in paces):.2f} ms in the worst round; "
            + (f"[yellow]late in {late} of {len(paces)} arms[/yellow]" if late else "it kept up in every round")
        )
    for note in result.notes:
        console.print(f"[dim]{note}[/dim]")


def _figure(figure: Interval) -> str:
    confidence = f"{100 * figure.confidence:.3g} %"
    return rf"[bold]{figure.estimate:.3f}[/bold] \[{figure.low:.3f}, {figure.high:.3f}] at {confidence}"


def _bound(claim: Claim) -> str:
    bounds = []
    if claim.at_least is not None:
        bounds.append(f"≥ {claim.at_least:g}")
    if claim.at_most is not None:
        bounds.append(f"≤ {claim.at_most:g}")
    return " and ".join(bounds)
