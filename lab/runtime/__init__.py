"""Runtimes carry a plan of units out; the process runtime does it with local processes.

Here belongs how a unit starts, stops and is watched. Which units there are is said by ``lab.units``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lab.errors import InputError
from lab.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lab.runtime.state import Running
    from lab.units import Site, Unit

__all__ = ["RUNTIMES", "Runtime", "make_runtime"]


class Runtime(Protocol):
    """What every runtime can do."""

    name: str

    def site(self) -> Site:
        """Where a new lab's units will be."""

    def log(self, unit: str) -> Path:
        """What the unit prints."""

    def last_words(self, unit: str) -> str:
        """The end of the unit's log, in one line; empty if it said nothing."""

    def start(self, unit: Unit) -> Running:
        """Starts a unit and returns at once; whether it came up is seen by looking."""

    def is_running(self, running: Running) -> bool:
        """Whether that very unit still lives."""

    def memory_bytes(self, running: Running) -> int:
        """Memory of a unit, shared pages counted once over all; 0 if it is gone."""

    def kill(self, running: Running) -> None:
        """Ends a unit at once and returns when it is gone; does nothing to one that does not run."""

    def stop(self, units: Iterable[Running]) -> None:
        """Ends units, gently if they let it."""

    def sweep(self) -> int:
        """Ends whatever is left of the lab, known or not, gives its ports back, and returns how much there was."""

    def run(self, argv: Sequence[str], on_line: Callable[[str], None]) -> int:
        """Runs a program of the lab to its end, hands its lines over as they come, and returns its exit status."""


RUNTIMES: dict[str, Callable[[Path, str], Runtime]] = {"process": ProcessRuntime}
"""Name → maker, from the lab's folder and its security mode."""


def make_runtime(name: str, folder: Path, security: str) -> Runtime:
    """The runtime of that name; ``auto`` is the best that this machine offers.

    Raises:
        InputError: no such runtime.
    """
    chosen = "process" if name == "auto" else name
    if chosen not in RUNTIMES:
        raise InputError(f"--runtime: {name!r} is not known; write one of auto, {', '.join(RUNTIMES)}")
    return RUNTIMES[chosen](folder, security)
