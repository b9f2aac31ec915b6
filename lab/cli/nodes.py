"""``lab nodes``: list the control plane's nodes, and admit one that the lab did not plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.lab import Lab

_STYLES = {"planned": "", "admitted": "green", "refused": "red"}

app = typer.Typer(
    help="List the control plane's nodes (planned, admitted and refused), and admit one that the lab did not plan.\n\n"
    "Begin with `lab nodes`, then `lab nodes admit homepage-laptop`.",
)


@app.callback(invoke_without_command=True)
def nodes(context: typer.Context, name: Name = "default", as_json: Json = False) -> None:
    """List the control plane's nodes (planned, admitted and refused), and admit one that the lab did not plan.

    A node that is neither planned nor admitted gets no stream, so no publish waits for it.

    Example: lab nodes --json
    """
    if context.invoked_subcommand is not None:
        return
    found = Lab(name).nodes()
    if as_json:
        print_json({"nodes": [asdict(each) for each in found]})
        return
    rows = [
        (
            each.node,
            each.role,
            each.caller,
            Text(each.state, _STYLES[each.state]),
            each.streams or "",
            each.who,
            each.times or "",
        )
        for each in found
    ]
    headings = ("node", "role", "caller", "state", "streams", "identity", "refusals")
    console.print(table(headings, rows, right=("streams", "refusals"), optional=("refusals", "identity")))


@app.command()
def admit(
    node: Annotated[str, typer.Argument(help="Name of the node: the node id of its xDS bootstrap.")],
    caller: Annotated[
        str,
        typer.Option(help="Caller for which it acts [default: as in its refused request, or as its name begins]."),
    ] = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Admit a node that the lab did not plan; publishes wait for it from then on, for a bounded time.

    It must prove the identity of its caller, where the lab has certificates. Admission lasts until `lab down`.

    Example: lab nodes admit homepage-laptop
    """
    admitted_for = Lab(name).admit_node(node, caller)
    if as_json:
        print_json({"node": node, "caller": admitted_for})
    else:
        console.print(f"{node} is admitted{f' for caller {admitted_for}' if admitted_for else ''}", markup=False)
