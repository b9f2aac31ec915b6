"""``python -m lab.faults.timer_process FOLDER ID``: heals a fault when its time is up; ends early if it is healed."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults.fault_context import FaultContext
from lab.faults.injector import Injector
from lab.faults.kinds import FAULTS

if TYPE_CHECKING:
    from types import FrameType


class FaultTimer:
    """Runs one fault to its end.

    Attributes:
        is_stopped: whether another process is healing the fault.
    """

    def __init__(self, folder: Path, fault_id: str) -> None:
        self.is_stopped = False
        self._folder = folder
        self._fault_id = fault_id

    def run(self) -> None:
        """Returns when the fault is healed, or another process is about to heal it."""
        injector = Injector(self._folder)
        record = injector.store.find(self._fault_id)
        if record is None:
            return
        # A load driver handles an interrupt by finishing early, and does not raise it.
        with suppress(KeyboardInterrupt):
            FAULTS[record.kind].run(FaultContext(self._folder), record)
        if not self.is_stopped:
            injector.heal(self._fault_id)

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Handles SIGTERM."""
        self.is_stopped = True
        raise KeyboardInterrupt


if __name__ == "__main__":
    timer = FaultTimer(Path(sys.argv[1]), sys.argv[2])
    signal.signal(signal.SIGTERM, timer.stop)
    try:
        timer.run()
    except LabError as error:
        sys.exit(str(error))
