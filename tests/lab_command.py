"""The ``lab`` command: as a user runs it, or forked from a process that has imported what it needs."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from lab.lab import Lab
from tests import command_client, command_server

LAB = Path(sys.executable).parent / "lab"
PATH = "/usr/local/bin:/usr/bin:/bin"


@cache
def forked_commands() -> Path:
    """A folder with a ``lab`` that starts in a tenth of the time; for the PATH of what calls it often."""
    folder = Path(tempfile.mkdtemp(prefix="lab-commands-"))
    server = subprocess.Popen(
        [sys.executable, command_server.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": PATH},
        start_new_session=True,  # Ctrl-C reaches commands through their clients
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)  # ends it
    client = f"{sys.executable} -IS {command_client.__file__} {folder / command_server.SOCKET}"
    (folder / "lab").write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    (folder / "lab").chmod(0o700)
    return folder


def run_lab(lab: Lab | None, *arguments: object, within_s: float = 100) -> subprocess.CompletedProcess[str]:
    """Runs the command on a lab, or on none, and returns its outcome."""
    return subprocess.run(
        [forked_commands() / "lab", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
        env={"PATH": PATH, "LAB_RUNTIME": "process", **_names(lab)},
    )


def start_lab(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    """Starts the command on a lab, and returns the process that stands for it."""
    return subprocess.Popen(
        [str(forked_commands() / "lab"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **_names(lab)},
    )


def await_line(program: subprocess.Popen[str], *words: str) -> str:
    """The next line of a program's stderr that contains all words."""
    assert program.stderr is not None
    return next(line for line in program.stderr if all(word in line for word in words))


def json_of(result: subprocess.CompletedProcess[str], *, statuses: tuple[int, ...] = (0,)) -> Any:
    """The document that a command printed and ended well, or with one of the exit statuses."""
    assert result.returncode in statuses, result.stderr
    return json.loads(result.stdout)


def refusal(result: subprocess.CompletedProcess[str], *, status: int = 1) -> str:
    """The one line by which a command says why it did nothing."""
    assert (result.returncode, result.stdout) == (status, "")
    [line] = result.stderr.strip().splitlines()
    return line


def _names(lab: Lab | None) -> dict[str, str]:
    return {} if lab is None else {"LAB_NAME": lab.name, "LAB_HOME": str(lab.folder.parent.parent)}
