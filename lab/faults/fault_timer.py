"""Faults that end by themselves have a minder: a process of this machine that outlives whoever injected them.

``python -m lab.faults.timer_process FOLDER ID`` is what it runs. It carries the lab's mark, as units do, and ends when
the fault is healed by somebody else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lab.faults.state import FaultStore
from lab.plan.units import Port, Unit
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import LabState, Running

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.faults.state import FaultRecord

_MEMORY = "minder"
_NOWHERE = Port("", "", "")


class Minders:
    """Those of one lab.

    Args:
        folder: the lab's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, fault: FaultRecord) -> Mapping[str, Any]:
        """Starts a fault's minder; returns what must be remembered to end it."""
        argv = ("python", "-m", "lab.faults.timer_process", str(self._folder), fault.id)
        unit = Unit(f"{fault.id}-minder", "minder", argv, _NOWHERE)
        [(_, running)] = self._runtime().start([unit])
        return {_MEMORY: {"pid": running.pid, "created": running.created}}

    def end(self, fault: FaultRecord) -> None:
        """Ends it, unless it has ended, or it is this process: a minder heals, too."""
        running = Running(**fault.memory.get(_MEMORY, {}))
        if running.pid and not self.is_this_process(fault):
            self._runtime().stop([running])

    @staticmethod
    def is_this_process(fault: FaultRecord) -> bool:
        """Whether this process is a fault's minder."""
        return bool(Running(**fault.memory.get(_MEMORY, {})).pid == os.getpid())

    def end_all(self) -> None:
        """Ends all of them."""
        if self._folder.exists():
            for fault in FaultStore(self._folder).all():
                self.end(fault)

    def _runtime(self) -> ProcessRuntime:
        # Also beside containers: a minder speaks to the lab as a command does, from outside.
        return ProcessRuntime(self._folder, LabState.of(self._folder).security)
