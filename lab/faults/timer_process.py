"""``python -m lab.faults.timer_process FOLDER ID``: heals a fault when its time is over, and ends when it is healed."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults.fault_context import Scene
from lab.faults.injector import Faults
from lab.faults.registry import kind_of

if TYPE_CHECKING:
    from types import FrameType


class Minder:
    """Minds one fault.

    Attributes:
        told_to_end: by whoever heals the fault meanwhile.
    """

    def __init__(self, folder: Path, fault_id: str) -> None:
        self.told_to_end = False
        self._folder = folder
        self._fault_id = fault_id

    def run(self) -> None:
        """Returns when the fault is healed, or another is about to heal it."""
        faults = Faults(self._folder)
        record = faults.store.find(self._fault_id)
        if record is None:
            return
        # A driver takes an interruption as the wish to end in its own way, and does not raise it.
        with suppress(KeyboardInterrupt):
            kind_of(record.kind).mind(Scene(self._folder), record)
        if not self.told_to_end:
            faults.heal(self._fault_id)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Handles the signal to end."""
        self.told_to_end = True
        raise KeyboardInterrupt


if __name__ == "__main__":
    minder = Minder(Path(sys.argv[1]), sys.argv[2])
    signal.signal(signal.SIGTERM, minder.end)
    try:
        minder.run()
    except LabError as error:
        sys.exit(str(error))
