"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli import completion
from lab.errors import InputError

Name = Annotated[str, typer.Option("--name", envvar="LAB_NAME", help="Which lab; keeps several on one machine apart.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on standard output.")]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="FIELD=VALUE", help="A field of the request context; may be repeated."),
]
User = Annotated[str, typer.Option("--user", help="The user id of the request context.")]
Caller = Annotated[
    str, typer.Option("--caller", help="The service in whose name to ask.", autocompletion=completion.callers)
]
Topology = Annotated[
    str,
    typer.Option(
        "--topology",
        help="The way from caller to model: direct, gateway, mesh, …",
        autocompletion=completion.topologies,
    ),
]
UseCase = Annotated[
    str, typer.Argument(help="What for, e.g. ContinueWatchingRanking.", autocompletion=completion.use_cases)
]
RoutesFile = Annotated[Path, typer.Argument(help="The route table: a YAML file, or a folder of them.")]


def read_context(pairs: list[str] | None, *, user: str = "", caller: str = "") -> dict[str, str]:
    """``["device=tv"]`` as a mapping, with user and caller put in.

    Raises:
        InputError: a pair is not of the form.
    """
    context = {"user_id": user, "caller": caller}
    for pair in pairs or []:
        field, equals, value = pair.partition("=")
        if not equals or not field:
            raise InputError(f"--context: {pair!r} is not of the form field=value; write e.g. device=tv")
        context[field] = value
    return {field: value for field, value in context.items() if value}
