"""Fault timers: a fault with a time limit has a process that heals it, even if the injecting command has exited.

The process runs ``python -m lab.faults.timer_process FOLDER ID``. It is marked as the lab's, as units are, and ends
when another process heals the fault first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.faults.state import FaultRecord, FaultStore
from lab.roles import Port, Unit
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import LabState, Running

_MEMORY = "timer"
_NOWHERE = Port("", "", "")


class FaultTimers:
    """The fault timers of one lab."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, fault: FaultRecord) -> Mapping[str, Any]:
        """Starts a fault's timer; returns what :meth:`stop` needs to know."""
        argv = ("python", "-m", "lab.faults.timer_process", str(self._folder), fault.id)
        unit = Unit(f"{fault.id}-timer", "fault-timer", argv, _NOWHERE)
        [(_, running)] = self._runtime().start([unit])
        return {_MEMORY: {"pid": running.pid, "created": running.created}}

    def stop(self, fault: FaultRecord) -> None:
        """Stops a fault's timer, unless it has ended or is this process, which is healing the fault."""
        running = Running(**fault.memory.get(_MEMORY, {}))
        if running.pid and not self.is_this_process(fault):
            self._runtime().stop([running])

    @staticmethod
    def is_this_process(fault: FaultRecord) -> bool:
        """Whether this process is the fault's timer."""
        return bool(Running(**fault.memory.get(_MEMORY, {})).pid == os.getpid())

    def stop_all(self) -> None:
        """Stops the timers of all faults."""
        faults = FaultStore(self._folder).all() if self._folder.exists() else []
        timers = [Running(**each.memory[_MEMORY]) for each in faults if each.memory.get(_MEMORY)]
        if timers:
            self._runtime().stop(timers, within_s=0)  # the lab ends, so what they would heal does not matter

    def _runtime(self) -> ProcessRuntime:
        # With containers, too: a timer talks to the lab from outside, as a command does.
        return ProcessRuntime(self._folder, LabState.of(self._folder).security)
