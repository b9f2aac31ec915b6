"""``lab runs``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from lab.bounds import COUNT
from lab.checkers import Claim
from lab.cli.options import Json, Name
from lab.cli.output import as_typed, console, print_json, table
from lab.cli.progress import milliseconds
from lab.cli.verdicts import STYLES
from lab.lab import Lab
from lab.runs.listing import ListedRun, list_runs

_FIGURES = ("sent", "failed", "p50 ms", "p99 ms")
_OPTIONAL = ("topology", "p50 ms", "failed", "sent", "p99 ms", "caller")  # verdicts stay


def runs(
    last: Annotated[
        int, typer.Option(min=COUNT.low, max=COUNT.high, help="Number of runs to show, the latest; 0 for all.")
    ] = 20,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """List a lab's runs, newest first, with their verdicts when they ended. The lab need not be up.

    Example: lab runs --last 5
    """
    folder = Lab(name).runs
    found = list_runs(folder)
    shown = found[: last or None]
    if as_json:
        print_json({"runs": [each.to_document() for each in shown]})
        return
    if not shown:
        others = sorted(each.name for each in folder.parent.glob("*") if each != folder and list_runs(each))
        console.print(f"lab {name} has no runs; `lab load` makes one", markup=False)
        if others:
            console.print(f"labs with runs: {', '.join(others)} (name one with --name)", markup=False)
        return
    headings = ("run", "topology", "caller", *_FIGURES, *Claim)
    console.print(table(headings, map(_row, shown), right=_FIGURES, optional=_OPTIONAL))
    if len(shown) < len(found):
        console.print(f"{len(found) - len(shown)} more: lab runs --last 0", markup=False)
    console.print(f"\n{as_typed('lab')} report {folder / shown[0].run}", markup=False, soft_wrap=True)


def _row(run: ListedRun) -> tuple[object, ...]:
    figures = ("" if each is None else each for each in (run.planned, run.failed))
    latencies = ("" if each is None else milliseconds(each) for each in (run.p50_ms, run.p99_ms))
    outcomes = (run.claims.get(claim, "not judged") for claim in Claim)
    verdicts = (Text(each, STYLES.get(each, "yellow")) for each in outcomes)
    return (run.run, run.topology, run.caller, *figures, *latencies, *verdicts)
