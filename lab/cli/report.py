"""``lab report`` and ``lab compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.options import Json, from_home
from lab.cli.output import console, print_json, say, table
from lab.errors import RunError
from lab.report import (
    ReportedBench,
    compare_benches,
    compare_runs,
    is_of_benches,
    read_benches,
    read_runs,
    write_album,
    write_report,
)
from lab.report.digits import with_interval
from lab.runs import runs_in

if TYPE_CHECKING:
    from lab.report.comparison import Compared, Comparison, Span

_REPORT = "report.html"
_COLUMNS = ("figure", "A", "B", "B − A", "B / A", "verdict")


def report(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs and of benches, e.g. runs/default/latest runs/bench/latest.", callback=from_home
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help=f"File to write; {_REPORT} in the first folder by default.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder to write every chart into, as PNG files.")] = None,
    as_json: Json = False,
) -> None:
    """Write runs and benches as one HTML file: verdicts, cost per topology, latency, time line, balance.

    Needs no lab and no network. Given a bench `topologies`, or runs of several topologies, it shows what the gateway
    costs.

    Example: lab report runs/default/latest runs/bench/latest --png charts
    """
    benches: list[ReportedBench] = []
    of_runs: list[Path] = []
    for folder in run_dirs:
        say(f"reading {folder}")
        if is_of_benches(folder):
            benches += read_benches(folder)
        else:
            of_runs += runs_in(folder)
    runs = read_runs(of_runs)
    path = (output or run_dirs[0].resolve() / _REPORT).resolve()
    write_report(runs, path, benches)
    pictures = [] if png is None else write_album(runs, benches, png.resolve())
    if as_json:
        print_json({"report": str(path), **({} if png is None else {"png": [str(each) for each in pictures]})})
    else:
        for each in (path, *pictures):
            console.print(f"{each}", markup=False)


def compare(
    a: Annotated[
        Path, typer.Argument(help="Folder of a run or of a bench, e.g. runs/default/latest.", callback=from_home)
    ],
    b: Annotated[Path, typer.Argument(help="Folder of another run or bench.", callback=from_home)],
    html: Annotated[
        Path | None, typer.Option(help="File to write a report of both to, as `lab report A B` does.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs, or two results of a bench, and say which differences are significant.

    Lists every condition besides the topology in which the two differ. Two runs share no rounds, so a bench tells more.

    Example: lab compare runs/default/20260102T030405.000Z runs/default/latest
    """
    folders = (a.resolve(), b.resolve())
    say(f"reading {a} and {b}")
    kinds = [is_of_benches(folder) for folder in folders]
    if any(kinds) and not all(kinds):
        raise RunError(
            f"{a} and {b}: one is of a bench, the other of a run; name two runs, or two results of the same bench"
        )
    if all(kinds):
        benches = [read_benches(folder) for folder in folders]
        found = compare_benches(benches[0], benches[1], (folders[0].name, folders[1].name))
        runs, shown = [], [bench for of in benches for bench in of]
    else:
        runs = read_runs(folders)
        found = [compare_runs(runs[0], runs[1])]
        shown = []
    if html is not None:
        write_report(runs, html.resolve(), shown)
    if as_json:
        print_json({"comparisons": [each.to_document() for each in found]})
    else:
        for each in found:
            _show(each)
        if html is not None:
            console.print(f"\n{html.resolve()}", markup=False)


def _show(found: Comparison) -> None:
    console.print(f"\nA  {found.a}\nB  {found.b}", markup=False)
    if found.figures:
        rows = [_row(each) for each in found.figures]
        console.print(table(_COLUMNS, rows, right=_COLUMNS[1:-1], folds=(_COLUMNS[0], _COLUMNS[-1])))
        console.print(f"[dim]{found.counts}; intervals of 95 %[/dim]")
    if found.differs:
        console.print(f"[bold yellow]{found.differs_besides}[/bold yellow]")
    for warning in found.warnings:
        console.print(f"[dim]{warning}[/dim]")


def _row(each: Compared) -> tuple[str, ...]:
    name = f"{each.name}, {each.unit}" if each.unit in ("ms", "share") else each.name
    return (name, *(_span(span) for span in (each.a, each.b, each.difference, each.ratio)), each.verdict)


def _span(span: Span) -> str:
    return with_interval(span.estimate, span.low, span.high)
