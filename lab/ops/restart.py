"""``python -m lab.ops.restart LAB UNIT``: starts a unit again that the memory watch has killed."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from lab.errors import DeadlineError, LabError, LabNotRunningError
from lab.faults.unit_operations import UnitOperations
from lab.runtime.context import LabContext
from lab.waiting import eventually

# `lab up` holds the lab's lock until it has verified the lab.
_WITHIN = timedelta(seconds=120)


def restart(lab: Path, unit: str) -> None:
    """Starts the unit, as soon as no other command is changing the lab; does nothing if the lab is down by then."""

    def attempt() -> str:
        try:
            UnitOperations(LabContext(lab)).start(unit)
        except LabNotRunningError:
            return ""
        except LabError as error:
            return str(error)
        return ""

    eventually(f"{unit} is started again", attempt, within=_WITHIN, until=lambda error: not error)


if __name__ == "__main__":
    try:
        restart(Path(sys.argv[1]), sys.argv[2])
    except DeadlineError as error:
        sys.exit(str(error))
