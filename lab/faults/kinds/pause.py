"""Freezes units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.faults.fault_context import Liveness
from lab.faults.process_faults import ProcessFault

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext


class Pause(ProcessFault):
    """Freezes units: a gray failure."""

    name = "pause"
    summary = "freezes units: connections stay open and nothing is answered (a gray failure)"
    shown_by = (Liveness.SILENT,)
    state = "paused"

    def hit(self, context: FaultContext, name: str) -> None:
        """Freezes the unit."""
        context.units.pause(name)

    def restore(self, context: FaultContext, name: str) -> None:
        """Resumes the unit, or starts it if it has been killed meanwhile."""
        if context.states().get(name, "exited") == "exited":
            context.units.start(name)
        else:
            context.units.resume(name)


PAUSE = Pause()
