"""``lab logs`` and ``lab audit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bounds import COUNT
from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.identity.names import TRUST_DOMAIN
from lab.lab import Lab
from lab.roles import CALLER

if TYPE_CHECKING:
    from lab.ops.inspect import LogLine

# In columns of their own, or the same in every line.
_LEFT_OUT = {"request_id", "time", "at", "ms", "status"}
_NOTHING: Sequence[object] = (None, "", "-")
_MORE = "to let callers, resolvers and models log requests, too"
_BAR = 30


def logs(
    request_id: Annotated[str, typer.Argument(help="Request id, as `lab call` and a run's history show it.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show what every unit logged about one request, in the order of its path, and when each worked on it.

    Gateways and Envoys always log requests; callers, resolvers and models do if the lab was brought up with
    --log-requests.

    Example: lab logs 1f0c2a9be1d3-00000001
    """
    lines = Lab(name).logs(request_id)
    if as_json:
        print_json({"request_id": request_id, "lines": [asdict(line) for line in lines]})
        return
    began = min(line.began_s for line in lines)
    whole_ms = max(1e3 * (line.began_s - began) + line.fields["ms"] for line in lines)
    headings = ("unit", "role", "at ms", "ms", "status", "")
    rows = [_row(line, 1e3 * (line.began_s - began), whole_ms) for line in lines]
    console.print(table(headings, rows, right=("at ms", "ms"), optional=("role",)))
    console.print()
    for line in lines:
        shown = {name: value for name, value in line.fields.items() if name not in _LEFT_OUT and value not in _NOTHING}
        console.print(f"{line.unit}: {', '.join(f'{name} {value}' for name, value in shown.items())}", markup=False)
    if CALLER not in {line.role for line in lines}:
        of = "" if name == "default" else f" --name {name}"
        console.print(f"\n{_MORE}:\n  lab down{of} && lab up --log-requests{of}", markup=False, soft_wrap=True)


def _row(line: LogLine, at_ms: float, whole_ms: float) -> tuple[object, ...]:
    ms = line.fields["ms"]
    first = round(_BAR * at_ms / whole_ms) if whole_ms else 0
    bar = " " * min(first, _BAR - 1) + "█" * max(1, round(_BAR * ms / whole_ms) if whole_ms else 1)
    return (line.unit, line.role, f"{at_ms:.1f}", _rounded(ms), line.fields["status"], bar)


def _rounded(ms: float) -> str:
    """Envoys count whole milliseconds."""
    return str(ms) if isinstance(ms, int) else f"{ms:.1f}"


def audit(
    last: Annotated[
        int, typer.Option(min=COUNT.low, max=COUNT.high, help="Number of entries to show, the latest; 0 for all.")
    ] = 0,
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
