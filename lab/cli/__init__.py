"""The ``lab`` command: one module per noun, each a thin layer over :class:`lab.lab.Lab`.

Parsing options and printing results belong here; the work is done in ``lab.lab`` and below.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from lab import folder_of, keep_files_private
from lab.cli.options import bound
from lab.cli.signals import interrupted_by_signals
from lab.errors import InputError, LabError
from lab.plain_text import printable
from lab.registry import PLUGINS, add_plugins, restore_plugins

JUDGING = {"load", "check", "report"}
"""Commands that judge runs, and say by status 1 that a verdict is invalid; the module of one from outside adds it."""
_NOT_JUDGED = 3
_MAX_LINE = 2_000

# Exit status that typer and shells give to Ctrl-C.
_INTERRUPTED = 130

COMMANDS: Mapping[str, str] = {
    "doctor": "doctor",
    "up": "lifecycle",
    "down": "lifecycle",
    "status": "lifecycle",
    "endpoints": "lifecycle",
    "call": "call",
    "logs": "inspection",
    "explain": "explain",
    "trace": "trace",
    "roll": "roll",
    "load": "load",
    "check": "check",
    "runs": "runs",
    "report": "report",
    "compare": "report",
    "scenarios": "scenarios",
    "new": "new",
    "routes": "routes",
    "callers": "callers",
    "fault": "fault",
    "pki": "pki",
    "nodes": "nodes",
    "audit": "inspection",
}
"""Command → the module of this package that defines it, in the order of the help."""

OUTSIDE = "routing_lab.commands"
"""Entry-point group of commands from outside this package: their name, and ``module:function`` or ``module:app``."""


@cache
def commands() -> Mapping[str, EntryPoint | None]:
    """Every command: those of this package, with None, then those from outside.

    Raises:
        InputError: one from outside has the name of one of these.
    """
    outside = {each.name: each for each in sorted(entry_points(group=OUTSIDE), key=lambda each: each.name)}
    if taken := sorted(outside.keys() & COMMANDS.keys()):
        raise InputError(f"command {taken[0]!r} from outside has the name of one of the lab's; rename it")
    return {**dict.fromkeys(COMMANDS), **outside}


class _Commands(TyperGroup):
    """Imports a command's module when it is called, so that `lab status` does not wait for the imports of benches."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        bound(self)

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(commands())

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and (name := " ".join(args[:2])) in commands():  # a command of two words
            args = [name, *args[2:]]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        # An unknown name was mistyped: typer suggests a similar one, for which it needs all commands.
        for name in [cmd_name] if cmd_name in COMMANDS or cmd_name in commands() else commands():
            if name not in self.commands:
                found, part = _found(name), typer.Typer()
                if isinstance(found, typer.Typer):  # the commands of one noun
                    part.add_typer(found, name=name)
                else:
                    part.command(name)(found)
                self.commands.update(bound(_unwrapped(get_group(part))).commands)
        return self.commands.get(cmd_name)


def _found(name: str) -> Any:
    """The function of a command, or the commands of one noun."""
    if name in COMMANDS:
        module = import_module(f"lab.cli.{COMMANDS[name]}")
        return getattr(module, "app", None) or getattr(module, name)
    entry = commands()[name]
    assert entry is not None  # noqa: S101 (it is none of this package's)
    try:
        return entry.load()
    except ImportError as error:
        raise InputError(f"lab {name}: {error}; install what it is part of, with its extra") from error


def _unwrapped(command: Any) -> Any:
    """The command, or group of them, whose help has a line for each paragraph: typer keeps the source's line breaks."""
    command.help = "\n\n".join(" ".join(each.split()) for each in (command.help or "").split("\n\n"))
    for each in getattr(command, "commands", {}).values():
        _unwrapped(each)
    return command


app = typer.Typer(
    name="lab",
    cls=_Commands,
    help="A testbed that routes ML inference traffic through an API gateway and through an Envoy sidecar mesh.\n\n"
    "Begin with `lab up`, then `lab call ContinueWatchingRanking --topology mesh --caller homepage`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _add(files: list[Path] | None) -> None:
    """Adds plugins while options are parsed: a command is registered right after that, with what plugins add to it."""
    restore_plugins(folder_of(_name_in(sys.argv)))
    add_plugins(files or ())


@app.callback()
def _root(
    name: Annotated[str | None, typer.Option(help="Name of the lab; the same as a command's own --name.")] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            callback=_add,
            help="Python file that adds topologies, faults, checkers, …; on any command, repeatable. "
            f"{PLUGINS} may list such files, too.",
        ),
    ] = None,
) -> None:
    del plugin
    if name is not None:
        os.environ["LAB_NAME"] = name


def main() -> None:
    """Entry point: prints an error as one line, and exits with status 1; ``--debug`` anywhere shows the traceback.

    The status is 3 where 1 would mean an invalid verdict.
    """
    keep_files_private()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = _plugins_first([argument for argument in arguments if argument != "--debug"])
    if _command(arguments) == "down":
        _go_first()
    try:
        with interrupted_by_signals():
            status = app(arguments, prog_name="lab", standalone_mode=False)
    except typer.TyperException as error:
        if debug:
            raise
        _fail(getattr(error, "format_message", error.__str__)(), _failed(arguments))
    except (LabError, OSError) as error:
        if debug:
            raise
        _fail(_in_words(error), _failed(arguments))
    except KeyboardInterrupt:
        if debug:
            raise
        _fail("interrupted", _INTERRUPTED)
    if status == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _command(arguments: Sequence[str]) -> str:
    return next((each for each in arguments if each in COMMANDS or each in JUDGING), "")


def _failed(arguments: Sequence[str]) -> int:
    with suppress(Exception):  # one from outside is in JUDGING once it is imported
        _found(next(each for each in arguments if each in commands()))
    return _NOT_JUDGED if _command(arguments) in JUDGING else 1


def _in_words(error: Exception) -> str:
    """The error's text; of a full disk with the file and the remedy."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename or _path_in_use(error)
        return f"{where}: {error.strerror}; make space, then run the command again".removeprefix("None: ")
    return str(error)


def _path_in_use(error: OSError) -> Path | None:
    """The path that the innermost call had; an error of writing, other than one of opening, names no file."""
    frames = [frame.f_locals.values() for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((each for frame in reversed(frames) for each in frame if isinstance(each, Path)), None)


def _go_first() -> None:
    """Gives this process the highest priority, where it may have it: it ends those that keep the machine busy."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def _plugins_first(arguments: Sequence[str]) -> list[str]:
    """Moves ``--plugin FILE`` to the front, since commands look kinds up when they are imported."""
    first: list[str] = []
    others: list[str] = []
    for argument in arguments:
        is_file = first[-1:] == ["--plugin"]
        (first if is_file or argument.partition("=")[0] == "--plugin" else others).append(argument)
    return [*first, *others]


def _name_in(arguments: Sequence[str]) -> str:
    """The lab that a command is about, before it is imported."""
    name = os.environ.get("LAB_NAME", "default")
    for argument, following in pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        if option == "--name":
            name = value if equals else following
    return name


def _fail(message: str, status: int) -> None:
    lines = [printable(line, _MAX_LINE) for line in message.splitlines()]
    sys.stderr.write("\n".join(f"lab: {line}" for line in lines) + "\n")
    sys.exit(status)
