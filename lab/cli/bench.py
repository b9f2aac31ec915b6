"""``lab bench``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bench.catalogue import BENCHES, ROUNDS, USUAL_ROUNDS, measure
from lab.bench.harness.bench_faults import HARMS
from lab.bench.harness.environment import setting
from lab.bench.harness.result import State, exit_status
from lab.bench.suites import blast_radius
from lab.checkout import CHECKOUT
from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_for, table
from lab.errors import InputError
from lab.measure.pace import in_words
from lab.report.picture import file_name, to_svg, write_pictures
from lab.runs.folder import folder_of_now, make
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from pathlib import Path

    from lab.bench.harness.result import BenchResult
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
    rounds: Annotated[
        int | None, typer.Option(min=3, help=f"Interleaved rounds of each; {ROUNDS}, or what suits it, if left out.")
    ] = None,
    topologies: Annotated[str, typer.Option(metavar="A,B", help=f"For {blast_radius.NAME}: these alone.")] = "",
    faults: Annotated[
        str, typer.Option(metavar="A,B", help=f"For {blast_radius.NAME}: these alone, of {', '.join(HARMS)}.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Measure claims about cost against their yardsticks, in a lab of its own.

    Exit status 1 if a claim does not hold; 2 if one is unknown: the driver was late, or the A/A control disagrees.

    Example: lab bench topologies decomposition --rounds 12

    Whom does a fault reach? lab bench blast-radius --topologies gateway,mesh --faults gateways-killed,sidecar-killed
    """
    chosen = names or list(BENCHES)
    for name in chosen:
        if name not in BENCHES:
            raise InputError(f"bench {name!r} is not known; there are {', '.join(BENCHES)}")
    only = {name: text.split(",") for name, text in (("topologies", topologies), ("faults", faults)) if text}
    if only and chosen != [blast_radius.NAME]:
        raise InputError(f"--{min(only)}: is for bench {blast_radius.NAME} alone; name that, or leave it out")
    if strange := [name for name in only.get("faults", ()) if name not in HARMS]:
        raise InputError(f"--faults: {strange[0]!r} is not known; there are {', '.join(HARMS)}")
    if strange := [name for name in only.get("topologies", ()) if name not in TOPOLOGIES]:
        raise InputError(f"--topologies: {strange[0]!r} is not known; there are {', '.join(TOPOLOGIES)}")
    say = progress_for(as_json=as_json)
    results = []
    folder = folder_of_now(CHECKOUT / "runs" / "bench")
    make(folder)
    with setting(say, only=only) as lab:
        for name in chosen:
            say(f"bench {name}")
            result = measure(name, lab, rounds or USUAL_ROUNDS.get(name, ROUNDS))
            _keep(result, folder)
            results.append(result)
    if as_json:
        print_json({"run_dir": str(folder), "benches": [result.to_document() for result in results]})
    else:
        for result in results:
            _show(result)
        console.print(f"\n{folder}\nlab report {folder} shows them as a page", markup=False)
    raise typer.Exit(exit_status(results))


def _keep(result: BenchResult, folder: Path) -> None:
    (folder / f"{result.name}.json").write_text(json.dumps(result.to_document(), indent=1))
    for chart in result.shown_charts():
        write_pictures(to_svg(chart, result.origin), folder / f"{result.name}-{file_name(chart)}")


def _show(result: BenchResult) -> None:
    console.print(f"\n[bold]{result.name}[/bold]")
    for each in result.shown_tables():
        console.print(each.title, markup=False)
        console.print(table(each.columns, each.written(), right=each.numbers))
    for claim in result.claims:
        console.print(f"{claim.text}: {_figure(claim.figure)}, {claim.bound}: {_MARKS[claim.state]}")
        for doubt in claim.doubts:
            console.print(f"  [yellow]{doubt}[/yellow]")
    for control in result.controls:
        style = "[bold white on red]" if not control.agrees else "[yellow]" if not control.can_tell else ""
        mark = f"{style}{control.verdict}{style and '[/]'}"
        console.print(f"A/A control, {control.text}: {_figure(control.difference)}: {mark}")
    if result.paces:
        console.print(in_words(result.paces), markup=False)
    for note in (*result.notes, *([str(result.ran)] if result.ran else [])):
        console.print(f"[dim]{note}[/dim]")


def _figure(figure: Interval) -> str:
    confidence = f"{100 * figure.confidence:.3g} %"
    return rf"[bold]{figure.estimate:.3f}[/bold] \[{figure.low:.3f}, {figure.high:.3f}] at {confidence}"
