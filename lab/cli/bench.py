"""``lab bench``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bench.catalogue import BENCHES, measure
from lab.bench.setting import setting
from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_for, table
from lab.errors import InputError
from lab.lab import CHECKOUT
from lab.report.picture import file_name, to_svg, write_pictures
from lab.runs.folder import folder_of_now, make

if TYPE_CHECKING:
    from pathlib import Path

    from lab.bench.result import BenchResult


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(bench)


def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(BENCHES)}; all if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds of each.")] = 10,
    as_json: Json = False,
) -> None:
    """Measure claims about cost against their yardsticks, in a lab of its own. Exit status 1 if one does not hold.

    Example: lab bench mesh-overhead --rounds 12
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
            result = measure(name, lab, rounds)
            _keep(result, folder)
            results.append(result)
    if as_json:
        print_json({"run_dir": str(folder), "benches": [result.to_document() for result in results]})
    else:
        for result in results:
            _show(result)
        console.print(f"\n{folder}\nlab report {folder} shows them as a page", markup=False)
    if not all(claim.holds for result in results for claim in result.claims):
        raise typer.Exit(1)


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
        mark = "[green]holds[/green]" if claim.holds else "[bold red]does not hold[/bold red]"
        figure = claim.figure
        console.print(
            f"{claim.text}: [bold]{figure.estimate:.3f}[/bold] "
            rf"\[{figure.low:.3f}, {figure.high:.3f}] at {figure.confidence:.0%}, {claim.bound}: {mark}"
        )
    for note in (*result.notes, *([str(result.ran)] if result.ran else [])):
        console.print(f"[dim]{note}[/dim]")
