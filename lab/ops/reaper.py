"""Reapers: processes that take labs down when their owner ends without having done so, even if it was killed.

``python -m lab.ops.reaper NAME HOME`` watches one lab. It prints ``ready``, or ``taken`` if a reaper whose owner is
alive already watches the lab. Then it reads standard input, a pipe that the owner holds open: the word ``dismissed``
ends the reaper; the end of the pipe, which also comes if the owner was killed, makes it take the lab down. It runs in a
session of its own, so signals to the owner's process group do not reach it.

``python -m lab.ops.reaper FOLDER`` watches everything whose home is in a folder, such as the labs of a test session;
see :func:`reaping`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from lab import PYTHON
from lab.errors import LabError
from lab.runtime.lock import exclusive

READY, TAKEN, DISMISSED = "ready", "taken", "dismissed"
MARK = "LAB_REAPED"
"""Environment variable of every process that is started within :func:`reaping`: the folder."""

_MODULE = "lab.ops.reaper"
_LEAVING = "leaving"
_DEPTH = 4
"""Maximum depth of a lab's home below a watched folder."""
_TIMEOUT_S = 30.0
"""For a reaper to finish once its owner is gone; also how long the next one waits for it."""


class Reaper:
    """A reaper process, as its owner sees it.

    Args:
        name: of the lab.
        home: folder in which the lab keeps its state.

    Raises:
        LabError: a reaper whose owner is alive watches the lab.
    """

    def __init__(self, name: str, home: Path) -> None:
        command = [*PYTHON, "-m", _MODULE, name, str(home)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        if self._process.stdout.readline().strip() != READY:
            self._process.communicate()
            raise LabError(f"lab {name} belongs to another notebook: run that one's last cell, or shut its kernel down")

    def dismiss(self) -> None:
        """Ends the reaper without touching the lab, and waits for it; does nothing if it has ended."""
        if self._process.poll() is None:
            self._process.communicate(DISMISSED)


@contextmanager
def reaping(folder: Path) -> Iterator[None]:
    """Ends, after the body, every lab whose home is in ``folder`` and every process started within the body.

    This holds even if this process is killed in the body. It does not wait for the reaper to start: the end of the pipe
    is still there when the reaper reads it.
    """
    command = [*PYTHON, "-m", _MODULE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        before = os.environ.get(MARK)
        os.environ[MARK] = str(folder)
        try:
            yield
        finally:
            os.environ.pop(MARK)
            if before is not None:
                os.environ[MARK] = before


def watch_folder(folder: Path) -> None:
    """Waits until the owner is gone, then ends the processes and labs that it left in the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = os.getppid()
    sys.stdin.read()
    # First end commands and kernels, which would bring labs up again.
    _kill_all_of(folder, spared={os.getpid(), owner})
    while homes := _homes_in(folder):
        for home, name in homes:
            _take_down(name, home)
        if _homes_in(folder) == homes:  # each attempt has had its whole timeout
            break


def _kill_all_of(folder: Path, spared: set[int]) -> None:
    """Kills every process whose environment names a path in the folder, except reapers, which end by themselves."""
    inside = f"{folder}{os.sep}"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_inside = any(f"{value}{os.sep}".startswith(inside) for value in process.environ().values())
            if is_inside and process.pid not in spared and _MODULE not in process.cmdline():
                process.kill()


def _homes_in(folder: Path) -> list[tuple[Path, str]]:
    """Home and name of each lab that has left a folder of its state."""
    found = [path for depth in range(_DEPTH + 1) for path in folder.glob(f"{'*/' * depth}.lab/*")]
    return sorted((path.parent.parent, path.name) for path in found if path.is_dir() and "." not in path.name)


def watch_lab(name: str, home: Path) -> None:
    """Waits until this reaper is dismissed or its owner is gone; takes the lab down in the latter case."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    post = home / ".lab" / f"{name}.reaper"  # no lab has a dot in its name
    give_up = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            _watch(name, home, post)
        except LabError:  # another reaper holds the lock
            if (post / _LEAVING).exists() and time.monotonic() < give_up:
                continue
            _say(TAKEN)
        return


def _watch(name: str, home: Path, post: Path) -> None:
    with exclusive(post):
        (post / _LEAVING).unlink(missing_ok=True)
        _say(READY)
        if sys.stdin.readline().strip() != DISMISSED:
            (post / _LEAVING).touch()
            _take_down(name, home)
        shutil.rmtree(post)


def _take_down(name: str, home: Path) -> None:
    from lab.ops.teardown import take_down  # noqa: PLC0415 (keeps a waiting reaper small)

    give_up = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            take_down(home / ".lab" / name)
        except LabError:  # a command of the owner still holds the lab's lock
            if time.monotonic() < give_up:
                continue
        return


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 2:  # noqa: PLR2004 (the module and a folder)
        watch_folder(Path(sys.argv[1]))
    else:
        watch_lab(sys.argv[1], Path(sys.argv[2]))
