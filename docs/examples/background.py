"""A runtime of one's own: local processes that yield to whatever else runs on this machine.

``lab up --plugin docs/examples/background.py --runtime background``
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lab.runtime import RuntimeKind
from lab.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.roles import Unit
    from lab.runtime.state import Running

NICENESS = 10


class BackgroundRuntime(ProcessRuntime):
    """As the process runtime, but every unit has a lower priority."""

    name = "background"

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units, and yields each with what it runs as."""
        for name, running in super().start(units):
            os.setpriority(os.PRIO_PROCESS, running.pid, NICENESS)
            yield name, running


RUNTIME = RuntimeKind(
    name=BackgroundRuntime.name,
    reason="nothing better can be had",
    priority=-1,
    obstacle=lambda: "",
    make=BackgroundRuntime,
)
