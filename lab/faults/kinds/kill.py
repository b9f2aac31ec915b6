"""Ends units with SIGKILL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.faults.fault_context import Liveness
from lab.faults.process_faults import ProcessFault

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext


class Kill(ProcessFault):
    """Ends units at once."""

    name = "kill"
    summary = "ends units at once (SIGKILL): they drain nothing"
    shown_by = (Liveness.REFUSES,)
    state = "exited"

    def hit(self, context: FaultContext, name: str) -> None:
        """Kills the unit."""
        context.units.kill(name)

    def restore(self, context: FaultContext, name: str) -> None:
        """Starts the unit."""
        context.units.start(name)


KILL = Kill()
