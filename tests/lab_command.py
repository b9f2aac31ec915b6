"""The ``lab`` command, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.lab import Lab

LAB = Path(sys.executable).parent / "lab"


def run_lab(lab: Lab | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command on a lab, or on none, and returns its outcome."""
    return subprocess.run(
        [LAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LAB_RUNTIME": "process", **_names(lab)},
    )


def start_lab(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    """Starts the command on a lab, and returns its process."""
    return subprocess.Popen(
        [str(LAB), *arguments],
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
