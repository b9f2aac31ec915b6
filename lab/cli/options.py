"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli import completion
from lab.cli.output import silence
from lab.errors import InputError

Name = Annotated[
    str, typer.Option("--name", envvar="LAB_NAME", help="Name of the lab, of which one machine may run several.")
]
Json = Annotated[
    bool,
    typer.Option("--json", callback=silence, help="Print one JSON document on standard output, and nothing else."),
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="FIELD=VALUE", help="Field of the request context; repeatable."),
]
User = Annotated[str, typer.Option("--user", help="User id of the request context.")]
Caller = Annotated[
    str, typer.Option("--caller", help="Caller identity of the request.", autocompletion=completion.callers)
]
Topology = Annotated[
    str,
    typer.Option(
        "--topology",
        help="Topology, the path from caller to model: direct, gateway, mesh, …",
        autocompletion=completion.topologies,
    ),
]
UseCase = Annotated[
    str, typer.Argument(help="Use case, e.g. ContinueWatchingRanking.", autocompletion=completion.use_cases)
]
RoutesFile = Annotated[Path, typer.Argument(help="Route table: a YAML file, or a folder of them.")]


def read_context(pairs: list[str] | None, *, user: str = "", caller: str = "") -> dict[str, str]:
    """Parses ``["device=tv"]`` into a request context, and adds user and caller.

    Raises:
        InputError: a pair is not of the form ``field=value``.
    """
    context = {"user_id": user, "caller": caller}
    for pair in pairs or []:
        field, equals, value = pair.partition("=")
        if not equals or not field:
            raise InputError(f"--context: {pair!r} is not of the form field=value; write e.g. device=tv")
        context[field] = value
    return {field: value for field, value in context.items() if value}
