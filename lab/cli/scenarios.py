"""``lab scenarios``."""

from __future__ import annotations

from lab import CHECKOUT
from lab.cli.options import Json
from lab.cli.output import console, print_json
from scenarios.framework.catalogue import entries, how_long, where


def scenarios(as_json: Json = False) -> None:
    """List the scenarios: claim, topologies, runtimes, duration. Needs no lab.

    Brackets hold the duration of the last run here that passed. `make scenarios` runs them.

    Example: lab scenarios --json
    """
    listed = entries(runs=CHECKOUT / "runs" / "scenarios")
    if as_json:
        print_json({"scenarios": [each.to_document() for each in listed]})
        return
    for module in dict.fromkeys(each.module for each in listed):
        console.print(f"\n[bold]{module}[/bold]")
        for each in listed:
            if each.module == module:
                console.print(f"  {each.claim}", markup=False)
                console.print(f"    [dim]{each.shows}[/dim]")
                words = [" and ".join(each.runtimes), *each.sets]
                console.print(f"    [dim]{where(each)}; {how_long(each)}; {', '.join(words)}[/dim]")
    console.print(f"\n{len(listed)} scenarios; `make scenarios ARGS='-k NAME'` runs one", markup=False)
