"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli import completion
from lab.cli.output import silence
from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_TOPOLOGY = "mesh"

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


def read_pairs(option: str, pairs: list[str] | None, *, form: str, example: str) -> Iterator[tuple[str, str]]:
    """Splits the values of an option that are of the form ``name=value``.

    Raises:
        InputError: one is not.
    """
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"{option}: {pair!r} is not of the form {form}; write e.g. {example}")
        yield name, value


def read_context(pairs: list[str] | None, *, user: str = "", caller: str = "") -> dict[str, str]:
    """Parses ``["device=tv"]`` into a request context, and adds user and caller."""
    given = dict(read_pairs("--context", pairs, form="field=value", example="device=tv"))
    return {field: value for field, value in {"user_id": user, "caller": caller, **given}.items() if value}
