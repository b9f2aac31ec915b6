"""Runtimes carry out a plan of units: with local processes, or with containers.

Here belongs how units start, stop and are watched; ``lab.roles`` decides which units there are. To add a runtime, add a
package here, name its module by an entry point of the group ``routing_lab.runtimes``, or give the file to ``--plugin``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lab.errors import InputError
from lab.registry import Registry
from lab.runtime._runtime import Runtime, RuntimeKind, RuntimeOption, RuntimeSite

__all__ = [
    "RUNTIMES",
    "Runtime",
    "RuntimeKind",
    "RuntimeOption",
    "RuntimeSite",
    "choose",
    "configure",
    "make_runtime",
    "options",
    "possible_runtimes",
]

RUNTIMES = Registry(RuntimeKind, package="lab.runtime", group="routing_lab.runtimes", noun="runtime")
"""All runtimes: the lab's, those of other distributions, and those of plugin files."""


def choose(name: str) -> tuple[str, str]:
    """Name of the runtime to use, and why.

    ``auto`` takes the one that ``LAB_RUNTIME`` names, else the one of highest priority that works on this machine.

    Raises:
        InputError: there is no such runtime.
    """
    why = "as asked for"
    if name == "auto" and os.environ.get("LAB_RUNTIME", "auto") != "auto":
        name, why = os.environ["LAB_RUNTIME"], "as LAB_RUNTIME says"
    if name == "auto":
        return _best()
    if name not in RUNTIMES:
        raise InputError(f"--runtime: {name!r} is not known; write one of auto, {', '.join(RUNTIMES)}")
    return name, why


def _best() -> tuple[str, str]:
    obstacles: list[str] = []
    for kind in sorted(RUNTIMES.values(), key=lambda kind: -kind.priority):
        obstacle = kind.obstacle()
        if not obstacle:
            return kind.name, "; ".join(obstacles) or kind.reason
        obstacles.append(obstacle)
    raise InputError(f"no runtime works here: {'; '.join(obstacles)}")


def options() -> dict[str, tuple[RuntimeOption, list[str]]]:
    """All options of ``lab up`` that are a runtime's own: by name, with the runtimes that have it."""
    found: dict[str, tuple[RuntimeOption, list[str]]] = {}
    for kind in RUNTIMES.values():
        for option in kind.options:
            found.setdefault(option.name, (option, []))[1].append(kind.name)
    return found


def configure(name: str, folder: Path, given: Mapping[str, str]) -> None:
    """Keeps the options of ``lab up`` that are the runtime's own in the lab's folder.

    Args:
        name: of the runtime.
        folder: the lab's own.
        given: option → value.

    Raises:
        InputError: the runtime has no such option, or refuses a value.
    """
    known = options()
    for each in given:
        option, having = known.get(each, (RuntimeOption(name=each, help=""), []))
        if name not in having:
            only = f"is for --runtime {' or '.join(having)} only" if having else "no runtime has such an option"
            raise InputError(f"{option.flag}: {only}")
    RUNTIMES[name].configure(folder, given)


def make_runtime(name: str, folder: Path, security: str) -> Runtime:
    """The runtime of that name, for the lab in a folder."""
    return RUNTIMES[name].make(folder, security)


def possible_runtimes(folder: Path) -> list[Runtime]:
    """Every runtime on which a lab may have left something, for a lab whose state no longer says which it was on."""
    return [kind.make(folder, "plaintext") for kind in RUNTIMES.values() if kind.left_in(folder) or not kind.obstacle()]
