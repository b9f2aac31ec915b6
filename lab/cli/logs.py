"""``lab logs``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json
from lab.lab import Lab

# The same in every line, or of no use without the others.
_LEFT_OUT = {"request_id", "time", "at"}


def logs(
    request_id: Annotated[str, typer.Argument(help="Request id, as `lab call` and a run's history show it.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show what every unit logged about one request, in the order of its path.

    Gateways and Envoys always log requests; callers, resolvers and models do if the lab was brought up with
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
