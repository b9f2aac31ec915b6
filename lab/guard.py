"""The guard of a lab: a process that takes it down when its owner ends without having done so, whatever ended it.

``python -m lab.guard NAME HOME``. It says ``ready`` on standard output, or ``taken`` if the lab has a guard
whose owner lives. Then it waits on standard input, a pipe that the owner holds open: the word ``dismissed`` lets it go,
and the end of the pipe, which also comes if the owner was killed, makes it take the lab down. It stands in a session of
its own, so that no signal which is meant for the owner and all its group reaches it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.runtime.lock import exclusive

READY, TAKEN, DISMISSED = "ready", "taken", "dismissed"

_LEAVING = "leaving"
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
        command = [sys.executable, "-m", "lab.guard", name, str(home)]
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


def main(name: str, home: Path) -> None:
    """Stands guard until it is dismissed or its owner is gone."""
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
    from lab.lab import Lab  # noqa: PLC0415 (a guard that only waits is to be small)

    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            Lab(name, home).down()
        except LabError:  # a command of the owner's still holds the lab's lock
            if time.monotonic() < give_up:
                continue
        return


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
