"""``lab logs``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json
from lab.lab import Lab

# Said in each line by the request id and the unit already.
_LEFT_OUT = {"request_id", "time", "at"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(logs)


def logs(
    request_id: Annotated[str, typer.Argument(help="As `lab call` and a run's history name it.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show what every unit wrote about one request, in the order of its way.

    Gateways and Envoys always write a line a request; callers, resolvers and models if the lab was brought up with
    --log-requests.

    Example: lab logs 1f0c2a9be1d3-00000001
    """
    lines = Lab(name).logs(request_id)
    if as_json:
        print_json({"request_id": request_id, "lines": [asdict(line) for line in lines]})
        return
    for line in lines:
        console.print(f"[bold]{line.unit}[/bold] ({line.role})")
        shown = {field: value for field, value in line.fields.items() if field not in _LEFT_OUT}
        console.print(f"  {json.dumps(shown)}", markup=False, soft_wrap=True)
