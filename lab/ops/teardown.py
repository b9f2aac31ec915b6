"""Takes a lab down, whether it is whole, half up or damaged."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults import Injector
from lab.registry import PLUGINS_FILE
from lab.runs.seal import forget_key
from lab.runtime import make_runtime, possible_runtimes
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState

if TYPE_CHECKING:
    from pathlib import Path


def take_down(folder: Path) -> int:
    """Ends every unit of the lab in this folder and removes the folder; returns the number of units ended."""
    if not folder.exists():
        return 0
    with exclusive(folder):
        return clean_up(folder, keep_logs=False)


def clean_up(folder: Path, *, keep_logs: bool) -> int:
    """As :func:`take_down`, for a caller that holds the lab's lock; ``keep_logs`` leaves the units' logs."""
    with suppress(LabError):  # the sweep below ends what is left of them
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
    forget_key(folder)
    if not (keep_logs and (folder / "units").exists()):
        shutil.rmtree(folder, ignore_errors=True)
    return ended
