"""``lab doctor``."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table

from lab import home
from lab.cli.options import Json
from lab.cli.output import console, print_json
from lab.ops.doctor import EXTRAS, MACHINE, Diagnosis, examine
from lab.runtime import RUNTIMES

_SIGNS = {"ok": "[green]✓[/green]", "hint": "[yellow]![/yellow]", "lacks": "[bold red]✗[/bold red]"}


def doctor(as_json: Json = False) -> None:
    """Check what this machine has and lacks for each runtime, and say what to do about it.

    Exit status 1 if no runtime can bring a lab up here.

    Example: lab doctor
    """
    diagnosis = examine(home())
    if as_json:
        findings = [{"part": part, **asdict(each)} for part, findings in diagnosis.parts.items() for each in findings]
        print_json({"ready": diagnosis.ready, "findings": findings})
    else:
        _show(diagnosis)
    if not any(diagnosis.ready.values()):
        raise typer.Exit(1)


def _show(diagnosis: Diagnosis) -> None:
    headings = {MACHINE: "This machine", EXTRAS: "Optional"}
    for part, findings in diagnosis.parts.items():
        heading = headings.get(part) or f"Runtime {part}: {RUNTIMES[part].title}"
        console.print(f"\n[bold]{heading}[/bold]")
        rows = Table(box=None, show_header=False, pad_edge=False)
        for width in (None, 14, None):
            rows.add_column(min_width=width)
        for each in findings:
            remedy = f"\n[dim]→ {each.remedy}[/dim]" if each.remedy else ""
            rows.add_row(_SIGNS[each.state], each.name, f"{each.found}{remedy}")
        console.print(rows)
    console.print()
    for runtime, ready in diagnosis.ready.items():
        lacking = ", ".join(diagnosis.lacks(runtime))
        console.print(f"[bold]{runtime}[/bold]: {'ready' if ready else f'not ready: {lacking}'}")
