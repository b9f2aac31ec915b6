"""``python -m lab.faults.minder FOLDER ID``: waits until a fault is to end, and heals it; ends when it is healed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults.carry_out import Faults
from lab.faults.registry import kind_of
from lab.faults.scene import Scene

if TYPE_CHECKING:
    from types import FrameType


def mind(folder: Path, fault_id: str) -> None:
    """Returns when the fault is healed, by this process or by another."""
    faults = Faults(folder)
    record = faults.store.find(fault_id)
    if record is None:
        return
    kind_of(record.kind).mind(Scene(folder), record)
    faults.heal(fault_id)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Whoever heals the fault first ends its minder.
    signal.signal(signal.SIGTERM, _end)
    try:
        mind(Path(sys.argv[1]), sys.argv[2])
    except KeyboardInterrupt:
        sys.exit(0)
    except LabError as error:
        sys.exit(str(error))
