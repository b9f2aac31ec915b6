"""``lab audit``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.lab import Lab


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(audit)


def audit(
    last: Annotated[int, typer.Option(min=0, help="So many of the latest; 0 for all.")] = 0,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show who has published, rolled back or had something go wrong on purpose, when, and who was turned away.

    Steps of a roll are publishes. Where connections are in plaintext nobody is proved to be who he says. Faults, and
    what is done to units from outside, name this machine's user; they are shown without a control plane, too.

    Example: lab audit --last 20
    """
    log = Lab(name).audit(last)
    if as_json:
        print_json({"acts": [asdict(each) for each in log.acts], "missing": log.missing})
        return
    rows = [
        (
            datetime.fromtimestamp(each.at_ns / 1e9, UTC).isoformat(" ", "milliseconds"),
            each.who,
            each.unit,
            each.what,
            f"{each.status or 'unfinished'}{f': {each.reason}' if each.reason else ''}",
            each.detail,
        )
        for each in log.acts
    ]
    console.print(table(("when", "who", "at", "what", "ended", "with"), rows))
    if log.missing:
        console.print(f"without what the control plane has written down: {log.missing}", style="yellow", markup=False)
