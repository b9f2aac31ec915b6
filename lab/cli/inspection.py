"""``lab logs`` and ``lab audit``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.identity.names import TRUST_DOMAIN
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


def audit(
    last: Annotated[int, typer.Option(min=0, help="Number of entries to show, the latest; 0 for all.")] = 0,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show the audit log: who published, rolled back, injected faults or acted on units, when, and who was refused.

    Steps of a rollout are publishes. In plaintext, names of peers are unproved. Faults and operations on units name
    this machine's user; they are shown even if the control plane does not answer.

    Example: lab audit --last 20
    """
    log = Lab(name).audit(last)
    if as_json:
        print_json({"acts": [asdict(each) for each in log.acts], "missing": log.missing})
        return
    rows = [
        (
            datetime.fromtimestamp(each.at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            each.who.replace(f"spiffe://{TRUST_DOMAIN}/", ""),
            each.unit,
            each.what.rpartition(".")[2],  # a method without its package
            each.status or "unfinished",
            f"{each.detail}{f': {each.reason}' if each.detail and each.reason else each.reason}",
        )
        for each in log.acts
    ]
    headings = ("when (UTC)", "who", "unit", "operation", "status", "detail")
    console.print(table(headings, rows, folds=("who", "operation", "unit", "detail"), optional=("unit",)))
    if log.missing:
        console.print(f"entries of the control plane are missing: {log.missing}", style="yellow", markup=False)
