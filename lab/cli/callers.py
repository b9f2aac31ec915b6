"""``lab callers``."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.options import Json, Name, completed_by
from lab.cli.output import console, print_json, table
from lab.lab import Lab

app = typer.Typer(help="By which topology each caller sends, and moving callers over.", no_args_is_help=True)


@app.command("list")
def list_(name: Name = "default", as_json: Json = False) -> None:
    """Show the topology of each caller.

    Example: lab callers list
    """
    _show(Lab(name).callers.show(), as_json=as_json)


@app.command()
def use(
    topology: Annotated[str, typer.Argument(help="To move to.", autocompletion=completed_by("topologies"))],
    callers: Annotated[list[str] | None, typer.Argument(help="Which to move; all if left out.")] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Move callers to another topology. A load with `--topology own` follows at once, and loses no request.

    Example: lab callers use mesh homepage search
    """
    _show(Lab(name).callers.use(topology, callers or ()), as_json=as_json)


def _show(used: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(used)
    else:
        console.print(table(("caller", "topology"), list(used.items())))
