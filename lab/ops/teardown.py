"""Taking a lab down, in whatever state it is."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults import Injector
from lab.registry import PLUGINS_FILE
from lab.runtime import make_runtime, possible_runtimes
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState

if TYPE_CHECKING:
    from pathlib import Path


def take_down(folder: Path) -> int:
    """Ends every unit of the lab that keeps its state in a folder, and removes that; returns how many ended."""
    if not folder.exists():
        return 0
    with exclusive(folder):
        return clean_up(folder, keep_logs=False)


def clean_up(folder: Path, *, keep_logs: bool) -> int:
    """Does the same for the command that holds the lab's lock already; ``keep_logs`` leaves the units' logs."""
    with suppress(LabError):  # the sweep ends what this leaves
        Injector(folder).end()
    try:
        state = LabState.load(folder / STATE_FILE)
    except LabError:
        state = None  # damaged: the sweep needs no state
    if state is None:
        runtimes = possible_runtimes(folder)
    else:
        runtimes = [make_runtime(state.runtime, folder, state.security)]
        if keep_logs:
            with suppress(LabError):  # the first error is the one to report
                runtimes[0].fetch_logs(state.plan.units)
    ended = sum(runtime.sweep() for runtime in runtimes)
    for file in (STATE_FILE, PLUGINS_FILE):
        (folder / file).unlink(missing_ok=True)
    shutil.rmtree(Identities(folder).folder, ignore_errors=True)
    if not (keep_logs and (folder / "units").exists()):
        shutil.rmtree(folder, ignore_errors=True)
    return ended
