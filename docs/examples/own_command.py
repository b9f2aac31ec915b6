"""A command from outside: ``lab who-calls`` lists who may call what, of the lab that is up."""

from __future__ import annotations

from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import print_json
from lab.lab import Lab


def callers(
    use_case: Annotated[str, typer.Argument(help="Use case; all by default.")] = "",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """List the callers of each use case.

    Example: lab who-calls HomepageRows
    """
    table = (Lab(name).routes.show().document or {}).get("use_cases", {})
    found = {each: its["callers"] for each, its in table.items() if use_case in ("", each)}
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(f"{each}: {', '.join(its)}" for each, its in found.items()))
