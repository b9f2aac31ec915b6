"""A runtime of one's own: local processes that yield to whatever else runs on this machine.

``lab up --plugin docs/examples/background.py --runtime background --niceness 15``
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.runtime import RuntimeKind, RuntimeOption
from lab.runtime.doctor_finding import Finding, finding
from lab.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from lab.roles import Unit
    from lab.runtime.state import Running

FILE, NICENESS, MOST = "niceness", 10, 19


class BackgroundRuntime(ProcessRuntime):
    """As the process runtime, but every unit has a lower priority."""

    name = "background"

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units, and yields each with what it runs as."""
        file = self._folder / FILE
        niceness = int(file.read_text()) if file.exists() else NICENESS
        for name, running in super().start(units):
            os.setpriority(os.PRIO_PROCESS, running.pid, niceness)
            yield name, running


def configure(folder: Path, given: Mapping[str, str]) -> None:
    """Keeps the niceness, which every later start of a unit reads."""
    for text in given.values():
        if not text.isdecimal() or int(text) > MOST:
            raise InputError(f"--niceness: {text!r} is out of range: use 0 to {MOST}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(text)


def checks() -> Iterator[Finding]:
    """What ``lab doctor`` says of it."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    yield finding("niceness", f"{own}", hint=own >= NICENESS, remedy="begin with a lower niceness")


RUNTIME = RuntimeKind(
    name=BackgroundRuntime.name,
    title="units are local processes of low priority",
    reason="nothing better can be had",
    priority=-1,
    obstacle=lambda: "",
    make=BackgroundRuntime,
    options=(RuntimeOption(name="niceness", help=f"Niceness of every unit, 0 to {MOST}; {NICENESS} by default"),),
    configure=configure,
    checks=checks,
)
