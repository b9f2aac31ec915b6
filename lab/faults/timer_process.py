"""``python -m lab.faults.timer_process FOLDER ID``: heals a fault when its time is up; ends early if it is healed."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import FrameType

from lab.errors import LabError
from lab.faults.fault_context import FaultContext
from lab.faults.injector import Injector
from lab.faults.kinds import FAULTS


def run(folder: Path, fault_id: str) -> None:
    """Returns when the fault is healed, or another process is about to heal it."""
    is_stopped = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        is_stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    injector = Injector(folder)
    record = injector.store.find(fault_id)
    if record is None:
        return
    # A load driver handles an interrupt by finishing early, and does not raise it.
    with suppress(KeyboardInterrupt):
        FAULTS[record.kind].run(FaultContext(folder), record)
    if not is_stopped.is_set():
        injector.heal(fault_id)


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), sys.argv[2])
    except LabError as error:
        sys.exit(str(error))
