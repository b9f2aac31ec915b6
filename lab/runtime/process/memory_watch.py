"""The memory watch of a lab: a process that holds its units to their memory ceilings.

A unit that exceeds its ceiling is killed, which its log says in one line, and started again. A kernel limit of twice
the ceiling (``RLIMIT_DATA``) holds where the machine is too busy for the watch. Containers have their ceilings in the
compose file, and the kernel kills them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from lab.errors import InputError
from lab.runtime.process import processes, watcher
from lab.runtime.state import STATE_FILE, Running

MARK = "LAB_MEMORY_WATCH"
"""Environment variable of the watch: the lab's folder."""
CEILING = "LAB_MEMORY_CEILING_MB"
"""Environment variable of ``lab up``: the ceiling of each unit, MB."""

_DEFAULT_MB, _LEAST_MB, _MOST_MB = 1024, 64, 1_000_000
_FILE, _LOG = "memory-watch.json", "memory-watch.log"
_KILL_S = 1.0
# Of the kernel's limit, as a multiple of the ceiling.
_HARD = 2


def ceiling_mb() -> int:
    """The memory ceiling of each unit, MB, by :data:`CEILING`.

    Raises:
        InputError: it is not a whole number from 64 to 1,000,000.
    """
    text = os.environ.get(CEILING, str(_DEFAULT_MB))
    if not (re.fullmatch("[0-9]{1,9}", text) and _LEAST_MB <= int(text) <= _MOST_MB):
        raise InputError(f"{CEILING}: {text[:60]!r}: use whole MB from {_LEAST_MB} to {_MOST_MB}")
    return int(text)


def begin(lab: Path, project: str = "") -> None:
    """Starts the lab's memory watch, unless it runs; with ``project``, of the containers of a Compose project."""
    if processes.find(_running(lab)):
        return
    argv = [sys.executable, "-I", "-S", watcher.__file__, str(lab), STATE_FILE, str(ceiling_mb())]
    argv += [project] if project else []
    pid = os.posix_spawn(
        argv[0],
        argv,
        {**os.environ, MARK: str(lab)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(lab / _LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    (lab / _FILE).write_text(json.dumps(asdict(processes.running(pid))))


def end(lab: Path) -> None:
    """Ends the lab's memory watch, and a restart that it has begun."""
    known = processes.find(_running(lab))
    processes.kill([known] if known else [], _KILL_S)
    processes.kill(processes.bounded(lambda: processes.carrying(MARK, str(lab)), _KILL_S) or [], _KILL_S)


def limit(lab: Path, pid: int) -> None:
    """Sets the kernel's limit of a new unit, if the lab is watched: benches start units that may take more."""
    if (lab / _FILE).exists() and hasattr(resource, "prlimit"):  # not on macOS
        resource.prlimit(pid, resource.RLIMIT_DATA, (_HARD * ceiling_mb() * 2**20,) * 2)


def events(unit: Path) -> list[str]:
    """One line for each time that the watch has ended the unit with this folder."""
    file = unit / watcher.EVENTS
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def _running(lab: Path) -> Running:
    try:
        return Running(**json.loads((lab / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return Running()
