"""``lab report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_for
from lab.report import read_run, write_report

_REPORT = "report.html"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(report)


def report(
    run_dirs: Annotated[list[Path], typer.Argument(help="Folders of runs, e.g. runs/default/latest.")],
    output: Annotated[Path | None, typer.Option(help=f"The file; {_REPORT} in the first folder if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Write what runs show as one HTML file: verdicts, latency, time line, who answered. Needs no lab and no network.

    Example: lab report runs/default/latest
    """
    say = progress_for(as_json=as_json)
    runs = []
    for number, folder in enumerate(run_dirs, 1):
        say(f"reading {folder}")
        runs.append(read_run(folder, number=number))
    path = (output or runs[0].result.folder / _REPORT).resolve()
    write_report(runs, path)
    if as_json:
        print_json({"report": str(path)})
    else:
        console.print(f"{path}", markup=False)
