"""Takes a lab down, whether it is whole, half up or damaged."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.faults import Injector
from lab.runs.seal import forget_key
from lab.runtime import make_runtime, possible_runtimes
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState

if TYPE_CHECKING:
    from pathlib import Path


def take_down(folder: Path) -> int:
    """Ends every unit of the lab in this folder and removes the folder; returns the number of units ended.

    The folder may be gone: the units carry its path.
    """
    with exclusive(folder):
        return clean_up(folder, keep_logs=False)


def clean_up(folder: Path, *, keep_logs: bool) -> int:
    """As :func:`take_down`, for a caller that holds the lab's lock.

    Args:
        folder: the lab's own.
        keep_logs: leaves the folders of units that have logged.
    """
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
    forget_key(folder)
    logged = {log.parent for log in folder.glob("units/*/log") if log.stat().st_size}
    _remove_all_but(logged if keep_logs else set(), folder)
    return ended


def _remove_all_but(kept: set[Path], path: Path) -> None:
    """Removes a file or folder, without the folders to keep and those that they are in."""
    if not any(each.is_relative_to(path) for each in kept):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    elif path not in kept:
        for each in path.iterdir():
            _remove_all_but(kept, each)
