"""Takes a lab down, whether it is whole, half up or damaged."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError
from lab.faults import Injector
from lab.runs.seal import forget_key
from lab.runtime import make_runtime, possible_runtimes
from lab.runtime.lock import exclusive, lock_of
from lab.runtime.state import STATE_FILE, LabState

_DISK_S, _POLL_S = 2.0, 0.002


def take_down(folder: Path) -> int:
    """Ends every unit of the lab in this folder and removes the folder; returns the number of units ended.

    The folder may be gone: the units carry its path.

    Raises:
        LabError: another command changes the lab; or units, or the disk of the folder, do not answer within 10 s.
    """
    if _disk_answers(folder):
        with exclusive(folder):
            return clean_up(folder, keep_logs=False)
    try:
        ended = sum(runtime.sweep() for runtime in possible_runtimes(folder))
    finally:
        _spawn("rm", "-rf", str(folder), str(lock_of(folder)))  # ends when the disk answers
    raise LabError(f"{folder}: its disk does not answer; {ended} units ended, and the folder goes once it does")


def _disk_answers(folder: Path) -> bool:
    """Whether a change beside the folder ends in time; to remove a file that is not there takes the disk as well."""
    attempt, give_up = _spawn("rm", "-f", f"{folder}.none"), time.monotonic() + _DISK_S
    while os.waitpid(attempt, os.WNOHANG) == (0, 0):
        if time.monotonic() >= give_up:
            return False
        time.sleep(_POLL_S)
    return True


def _spawn(*command: str) -> int:
    """Starts a process that may be left behind, and returns its id: one that waits for a disk cannot be ended."""
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=quiet, setsid=True)


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
