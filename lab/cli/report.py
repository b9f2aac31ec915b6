"""``lab report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.options import Json
from lab.cli.output import console, print_json, say
from lab.report import ReportedBench, is_of_benches, read_benches, read_runs, write_album, write_report
from lab.runs import runs_in

_REPORT = "report.html"


def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(help="Folders of runs and of benches, e.g. runs/default/latest runs/bench/latest.")
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
