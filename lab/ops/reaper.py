"""Guards: processes that take labs down when their owner ends without having done so, whatever ended it.

``python -m lab.ops.reaper NAME HOME`` guards one lab. It says ``ready`` on standard output, or ``taken`` if the lab has
a guard whose owner lives. Then it waits on standard input, a pipe that the owner holds open: the word ``dismissed``
lets it go, and the end of the pipe, which also comes if the owner was killed, makes it take the lab down. It stands in
a session of its own, so that no signal which is meant for the owner and all its group reaches it.

``python -m lab.ops.reaper FOLDER`` guards whatever has its home in a folder, as a suite's tests have; see
:func:`guarded`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from lab.errors import LabError
from lab.runtime.lock import exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator

READY, TAKEN, DISMISSED = "ready", "taken", "dismissed"
MARK = "LAB_GUARDED"
"""Environment variable of whatever a process starts within :func:`guarded`: the folder."""

_MODULE = "lab.ops.reaper"
_LEAVING = "leaving"
_DEPTH = 4
"""Of a lab's home in a guarded folder, at most."""
_PATIENCE_S = 30.0
"""A guard whose owner has gone is done by then, and the next may have its post."""


class Guard:
    """A guard, as its owner sees it.

    Args:
        name: of the lab.
        home: where it keeps its state.

    Raises:
        LabError: the lab has a guard whose owner lives.
    """

    def __init__(self, name: str, home: Path) -> None:
        command = [sys.executable, "-m", _MODULE, name, str(home)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        if self._process.stdout.readline().strip() != READY:
            self._process.communicate()
            raise LabError(f"lab {name} belongs to another notebook: run that one's last cell, or shut its kernel down")

    def dismiss(self) -> None:
        """Lets it go, and returns when it is gone; does nothing to one that is."""
        if self._process.poll() is None:
            self._process.communicate(DISMISSED)


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Lets nothing outlive the block: no lab whose home is in ``folder``, and no process that was started within.

    This holds if the block ends, and also if this process is killed in it. It costs no waiting: the guard reads the end
    of its pipe also if that came before it stood.
    """
    command = [sys.executable, "-m", _MODULE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        before = os.environ.get(MARK)
        os.environ[MARK] = str(folder)
        try:
            yield
        finally:
            os.environ.pop(MARK)
            if before is not None:
                os.environ[MARK] = before


def watch(folder: Path) -> None:
    """Stands guard over a folder until its owner is gone, and ends what that has left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = os.getppid()
    sys.stdin.read()
    # Commands and kernels go first, lest they bring up again what is taken down.
    _kill_all_of(folder, spared={os.getpid(), owner})
    while homes := _homes_in(folder):
        for home, name in homes:
            _take_down(name, home)
        if _homes_in(folder) == homes:  # it was tried long enough
            break


def _kill_all_of(folder: Path, spared: set[int]) -> None:
    """Ends every process of whose environment something lies in the folder, but no guard, which ends by itself."""
    inside = f"{folder}{os.sep}"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_inside = any(f"{value}{os.sep}".startswith(inside) for value in process.environ().values())
            if is_inside and process.pid not in spared and _MODULE not in process.cmdline():
                process.kill()


def _homes_in(folder: Path) -> list[tuple[Path, str]]:
    """Home and name of each lab that has left something."""
    found = [path for depth in range(_DEPTH + 1) for path in folder.glob(f"{'*/' * depth}.lab/*")]
    return sorted((path.parent.parent, path.name) for path in found if path.is_dir() and "." not in path.name)


def main(name: str, home: Path) -> None:
    """Stands guard over one lab until it is dismissed or its owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    post = home / ".lab" / f"{name}.guard"  # no lab has a dot in its name
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            _stand(name, home, post)
        except LabError:
            if (post / _LEAVING).exists() and time.monotonic() < give_up:
                continue
            _say(TAKEN)
        return


def _stand(name: str, home: Path, post: Path) -> None:
    with exclusive(post):
        (post / _LEAVING).unlink(missing_ok=True)
        _say(READY)
        if sys.stdin.readline().strip() != DISMISSED:
            (post / _LEAVING).touch()
            _take_down(name, home)
        shutil.rmtree(post)


def _take_down(name: str, home: Path) -> None:
    from lab.ops.teardown import take_down  # noqa: PLC0415 (a guard that only waits is to be small)

    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            take_down(home / ".lab" / name)
        except LabError:  # a command of the owner's still holds the lab's lock
            if time.monotonic() < give_up:
                continue
        return


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 2:  # noqa: PLR2004 (itself, and a folder)
        watch(Path(sys.argv[1]))
    else:
        main(sys.argv[1], Path(sys.argv[2]))
