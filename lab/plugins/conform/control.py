"""How a proxy's routes are changed: a command of the user, or a control that a file defines."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from lab.errors import InputError, UnitError
from lab.plugins.conform.forms import BY_HEADER
from lab.plugins.conform.rendered import CANNOT, RenderedProxy
from lab.registry import Registry
from services.renderer.proxy import RENDERERS

_WITHIN_S = 30.0
_SHOWN = 300

Document = Mapping[str, Any]


async def _nothing() -> None:
    """A control that holds nothing open has nothing to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Changes a proxy's routes: a file that defines such a value adds one, see :mod:`lab.plugins.conform.controls`.

    Attributes:
        name: by which users ask for it.
        apply: puts a table in force, see :func:`lab.plugins.conform.table.document`; the first one starts the proxy if
            the control runs one. What it raises as :class:`lab.errors.LabError` ends the check that wanted the change.
        cannot: features of routes (``weights``, ``sticky``, ``shadow``, ``method``, ``conditions``) that it cannot
            configure, each with its reason. It passes over routes that need them.
        only: name of the form of requests that its proxy routes, see :mod:`lab.plugins.conform.forms`; empty for any.
        drain: asks the proxy to end once its requests in flight have; None if it cannot.
        close: ends what it started.
    """

    name: str
    apply: Callable[[Document], Awaitable[None]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    only: str = ""
    drain: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]] = _nothing


CONTROLS = Registry(
    Control, package="lab.plugins.conform.controls", group="routing_lab.conformance_controls", noun="control"
)
"""Controls that a file defines, by name."""


def controls() -> dict[str, Control]:
    """All controls, by name: those of :data:`CONTROLS`, and one for each proxy renderer."""
    return dict(sorted({**{name: _rendered(name) for name in RENDERERS}, **CONTROLS}.items()))


def _rendered(name: str) -> Control:
    proxy = RenderedProxy(name)
    return Control(name=name, only=BY_HEADER, apply=proxy.apply, cannot=CANNOT, drain=proxy.drain, close=proxy.close)


def control_of(text: str, drain: str = "") -> Control:
    """The control of that name, or one that runs a command.

    Args:
        text: name of a control; else a command, which gets a file with the table as its last argument and has put it
            in force when it ends.
        drain: command that asks the proxy to end gracefully; empty for none.

    Raises:
        InputError: neither a control nor a program.
    """
    if found := controls().get(text):
        if drain:
            raise InputError(f"--drain: the control {text} drains by itself; leave the option out")
        return found
    argv = _argv("--control", text)

    async def apply(table: Document) -> None:
        with TemporaryDirectory(prefix="lab-conform-") as folder:
            file = Path(folder) / "routes.json"
            file.write_text(json.dumps(table, indent=1))
            await _run([*argv, str(file)])

    async def ask_to_end() -> None:
        await _run(_argv("--drain", drain))

    if drain:
        _argv("--drain", drain)
    return Control(name=argv[0], apply=apply, drain=ask_to_end if drain else None)


def _argv(option: str, text: str) -> list[str]:
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}: {text!r}") from None
    if not argv:
        raise InputError(f"{option}: empty; name a control ({', '.join(controls())}) or a command")
    return argv


async def _run(argv: list[str]) -> None:
    """Runs a command in its own process group, which ends with it.

    Raises:
        UnitError: it cannot be started, fails, or takes too long; with its last line.
    """
    with TemporaryFile() as errors:  # no pipe, which a proxy that the command starts would keep open
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise UnitError(
                f"control {argv[0]}: {error.strerror}; name a control ({', '.join(controls())}) or a command"
            ) from None
        try:
            async with asyncio.timeout(_WITHIN_S):
                status = await process.wait()
        except TimeoutError:
            raise UnitError(
                f"control {argv[0]}: still runs after {_WITHIN_S:g} s; it must end once it is done"
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if status:
            errors.seek(0)
            last = (errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise UnitError(f"control {argv[0]}: exit status {status}: {last[:_SHOWN]}")
