"""Starts the processes of units, each in its own session.

Imports are most of what a Python unit costs to start. Several that start together are forked from one process that has
imported what they need; see :mod:`lab.runtime.process.preloaded`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from lab import PYTHON
from lab.errors import UnitError
from lab.roles import CONTROL_PLANE, Unit
from lab.runtime.process import preloaded
from lab.runtime.process.preloaded import MARK

_PYTHON = ("python", "-m")
_OWN = ("services.", "models.", "lab.plugins.")
"""Beginnings of modules that may be imported without being run."""
_FEWEST = 3


class Starter:
    """Starts units; to be used in a ``with`` statement.

    Args:
        units: all that will be started.
        environment_of: environment of the unit of a name.
    """

    def __init__(self, units: Sequence[Unit], environment_of: Callable[[str], Mapping[str, str]]) -> None:
        self._environment_of = environment_of
        forked = {unit.name: unit for unit in units if _is_forkable(unit)}
        self._forked = forked if len(forked) >= _FEWEST else {}
        self._preloader: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if self._forked:
            self._preloader = self._preload()
        return self

    def __exit__(self, *_: object) -> None:
        if self._preloader:
            with suppress(BrokenPipeError):
                self._preloader.communicate()  # ends it, and none of its units

    def start(self, unit: Unit, log: Path) -> int:
        """The process id of the unit, which has just been started.

        Raises:
            UnitError: its program does not exist, or cannot be run.
        """
        return (unit.name in self._forked and self._fork(unit, log)) or self._spawn(unit, log)

    def _preload(self) -> subprocess.Popen[str]:
        # A process can show another command and mark later, but only in the space that these had when it started.
        environment = dict(self._environment_of(max(self._forked, key=len)))
        mark = environment.pop(MARK)
        modules = sorted({unit.argv[2] for unit in self._forked.values()})
        longest = max(map(_title, self._forked.values()), key=len)
        return subprocess.Popen(
            [*PYTHON, preloaded.__file__, *modules, longest],
            env={**environment, MARK: mark},  # the last
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def _fork(self, unit: Unit, log: Path) -> int:
        """The process id of the unit; 0 if the preloader has ended, as it cannot import what the units need."""
        assert self._preloader is not None  # noqa: S101 (there are units to fork)
        assert self._preloader.stdin is not None  # noqa: S101 (it is a pipe)
        assert self._preloader.stdout is not None  # noqa: S101 (it is a pipe)
        with suppress(BrokenPipeError):
            request = json.dumps([unit.argv[2:], _title(unit), self._environment_of(unit.name), str(log)])
            print(request, file=self._preloader.stdin, flush=True)
            return int(self._preloader.stdout.readline() or 0)
        return 0

    def _spawn(self, unit: Unit, log: Path) -> int:
        argv = [*_command(unit.argv[0]), *unit.argv[1:]]
        # Not subprocess: the unit must outlive this process, which never waits for it.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            return os.posix_spawn(argv[0], argv, self._environment_of(unit.name), file_actions=actions, setsid=True)
        except OSError as error:
            raise UnitError(f"{unit.name}: cannot start {argv[0]}: {error}") from error


def _title(unit: Unit) -> str:
    """The command of a unit, as ``ps`` shows it."""
    return " ".join([*PYTHON, *unit.argv[1:]])


def _is_forkable(unit: Unit) -> bool:
    """Whether a unit may be forked; not a control plane, whose imports would be in the memory of all others."""
    own = unit.argv[:2] == _PYTHON and unit.argv[2].startswith(_OWN)
    return own and unit.role != CONTROL_PLANE and sys.platform == "linux"


def _command(name: str) -> tuple[str, ...]:
    if name == "python":
        return PYTHON
    return (shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or name,)
