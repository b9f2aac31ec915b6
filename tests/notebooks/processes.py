"""What is left of a notebook's lab."""

from datetime import timedelta

import psutil

from lab.lab import Lab
from lab.waiting import eventually


def processes_of(lab: Lab) -> list[list[str]]:
    """Command lines of all processes that were started for a lab: kernels, guards and servers as well as units."""
    home = str(lab.folder.parent.parent)
    found = []
    for process in psutil.process_iter():
        try:
            # Whose environment says so, and not this process, which has only set it since.
            if process.environ().get("LAB_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def await_nothing_left(lab: Lab) -> None:
    eventually("nothing is left", lambda: processes_of(lab), within=timedelta(seconds=20), until=lambda left: not left)
    assert not list(lab.folder.parent.glob("*"))
