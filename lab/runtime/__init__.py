"""Runtimes carry out a plan of units: with local processes, or with containers.

Here belongs how units start, stop and are watched; ``lab.roles`` decides which units there are. To add a runtime, add a
package here, name its module by an entry point of the group ``routing_lab.runtimes``, or give the file to ``--plugin``.
"""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import InputError
from lab.registry import Registry
from lab.runtime._runtime import Runtime, RuntimeKind, RuntimeSite

__all__ = ["RUNTIMES", "Runtime", "RuntimeKind", "RuntimeSite", "choose", "make_runtime", "possible_runtimes"]

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


def make_runtime(name: str, folder: Path, security: str) -> Runtime:
    """The runtime of that name, for the lab in a folder."""
    return RUNTIMES[name].make(folder, security)


def possible_runtimes(folder: Path) -> list[Runtime]:
    """Every runtime on which a lab may have left something, for a lab whose state no longer says which it was on."""
    return [kind.make(folder, "plaintext") for kind in RUNTIMES.values() if kind.left_in(folder) or not kind.obstacle()]
