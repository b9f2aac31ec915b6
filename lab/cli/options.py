"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from errno import ELOOP
from functools import partial
from inspect import Parameter, Signature, signature
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from lab import home
from lab.cli.output import silenced
from lab.errors import InputError
from lab.plain_text import require_plain

DEFAULT_TOPOLOGY = "mesh"
ALL_PERCENT = 100

MAX_TEXT_CHARACTERS = 4_096
"""Limit for a text on the command line, as for the name of a file."""

_PROSE = {"comment"}  # the control plane makes its control characters visible
_SHOWN = 40


def completed_by(names: str) -> Callable[[str], list[str]]:
    """A completion of :mod:`lab.cli.completion`, which is imported only where a shell asks for it."""

    def complete(incomplete: str) -> list[str]:
        from lab.cli import completion  # noqa: PLC0415 (takes half a second, which every command would wait for)

        found: list[str] = getattr(completion, names)(incomplete)
        return found

    return complete


def _silence(ctx: typer.Context, as_json: bool) -> bool:
    if as_json:
        ctx.with_resource(silenced())  # until the command ends
    return as_json


def with_options(command: Callable[..., None], parameters: Iterable[Parameter]) -> None:
    """Gives a command options that kinds define, in place of its parameter ``**…``.

    Raises:
        InputError: two options have one name.
    """
    fixed = [
        each for each in signature(command, eval_str=True).parameters.values() if each.kind is not each.VAR_KEYWORD
    ]
    parameters = list(parameters)
    if taken := {each.name for each in fixed} & {each.name for each in parameters}:
        raise InputError(f"--{min(taken).replace('_', '-')}: the command has this option already; rename the kind's")
    command.__signature__ = Signature([*fixed, *parameters])  # type: ignore[attr-defined]


Name = Annotated[
    str, typer.Option("--name", envvar="LAB_NAME", help="Name of the lab, of which one machine may run several.")
]
Json = Annotated[
    bool,
    typer.Option("--json", callback=_silence, help="Print one JSON document on standard output, and nothing else."),
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="FIELD=VALUE", help="Field of the request context; repeatable."),
]
User = Annotated[str, typer.Option("--user", help="User id of the request context.")]
Caller = Annotated[
    str, typer.Option("--caller", help="Caller identity of the request.", autocompletion=completed_by("callers"))
]
Topology = Annotated[
    str,
    typer.Option(
        "--topology",
        help="Topology, the path from caller to model: direct, gateway, mesh, …",
        autocompletion=completed_by("topologies"),
    ),
]
UseCase = Annotated[
    str, typer.Argument(help="Use case, e.g. ContinueWatchingRanking.", autocompletion=completed_by("use_cases"))
]


def from_home(given: Any) -> Any:
    """Paths of runs as given, or below the lab's home if only that exists: ``runs/default/latest`` works anywhere."""
    if isinstance(given, list | tuple):
        return [from_home(each) for each in given]
    return home() / given if given is not None and not given.exists() and (home() / given).exists() else given


RoutesFile = Annotated[Path, typer.Argument(help="Route table: a YAML file, or a folder of them.")]


def bound(command: Any) -> Any:
    """The command, or group of them, which now refuses texts that are not plain and numbers that are not finite.

    An option's own range is checked before, and its own callback is called after.
    """
    for parameter in command.params:
        parameter.callback = partial(_check, parameter.callback)
    for each in getattr(command, "commands", {}).values():
        bound(each)
    return command


def _check(callback: Callable[..., Any] | None, ctx: Any, parameter: Any, value: Any) -> Any:
    option = "/".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str | Path):
            _check_text(option, str(each), prose=parameter.name in _PROSE)
        if isinstance(each, Path):
            _refuse_loop(option, each)
        if isinstance(each, float) and not isfinite(each):
            raise InputError(f"{option}: {each} is not finite; write a number")
    return value if callback is None else callback(ctx, parameter, value)


def _refuse_loop(option: str, path: Path) -> None:
    try:
        path.stat()
    except OSError as error:  # any other error has its own message where the file is read
        if error.errno == ELOOP:
            raise InputError(f"{option}: {path} is a link to itself; name a file") from None


def _check_text(option: str, text: str, *, prose: bool) -> None:
    try:
        text.encode()  # what is not UTF-8 on the command line arrives as half characters
        if not prose:
            require_plain(option, text, MAX_TEXT_CHARACTERS)
    except UnicodeEncodeError:
        raise InputError(f"{option}: {text[:_SHOWN]!a} is not UTF-8; write it in UTF-8") from None
    except ValueError as error:
        raise InputError(str(error)) from None


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


def availability_of(slo: str) -> float:
    """Parses ``--slo``; returns the share of requests that must be answered, above 0 and at most 1.

    Raises:
        InputError: the objective is not of the form ``availability>=99.9%``.
    """
    found = re.fullmatch(r"\s*availability\s*>=\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", slo)
    if found is None or not 0 < float(found[1]) <= ALL_PERCENT:
        raise InputError(f"--slo: {slo!r} is not an objective; write e.g. 'availability>=99.9%'")
    return float(found[1]) / ALL_PERCENT
