"""``lab doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from lab import home
from lab.cli.options import Json
from lab.cli.output import console, print_json
from lab.ops.doctor import COMPOSE, EXTRAS, MACHINE, PROCESS, examine

if TYPE_CHECKING:
    from lab.ops.doctor import Diagnosis

_SIGNS = {"ok": "[green]✓[/green]", "hint": "[yellow]![/yellow]", "lacks": "[bold red]✗[/bold red]"}
_PARTS = {
    MACHINE: "This machine",
    PROCESS: "Runtime process: units are local processes",
    COMPOSE: "Runtime compose: units are containers",
    EXTRAS: "Optional",
}


def doctor(as_json: Json = False) -> None:
    """Check what this machine has and lacks for each runtime, and say what to do about it.

    Exit status 1 if no runtime can bring a lab up here.

    Example: lab doctor
    """
    diagnosis = examine(home())
    if as_json:
        print_json({"ready": diagnosis.ready, "findings": [asdict(each) for each in diagnosis.findings]})
    else:
        _show(diagnosis)
    if not any(diagnosis.ready.values()):
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    for part, heading in _PARTS.items():
        console.print(f"\n[bold]{heading}[/bold]")
        rows = Table(box=None, show_header=False, pad_edge=False)
        for width in (None, 14, None):
            rows.add_column(min_width=width)
        for each in diagnosis.findings:
            if each.part == part:
                remedy = f"\n[dim]→ {each.remedy}[/dim]" if each.remedy else ""
                rows.add_row(_SIGNS[each.state], each.name, f"{each.found}{remedy}")
        console.print(rows)
    console.print()
    for runtime, ready in diagnosis.ready.items():
        lacking = ", ".join(diagnosis.lacks(runtime))
        console.print(f"[bold]{runtime}[/bold]: {'ready' if ready else f'not ready: {lacking}'}")
