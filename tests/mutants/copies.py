"""Copies of the checkout, to be changed, and programs that run in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def copy_of(checkout: Path, to: Path) -> None:
    """Copies what git knows or would know of a checkout, without its history."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=checkout,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (checkout / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, to / name)


def run_in(copy: Path, timeout_s: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python with these arguments in a copy, and by the copy's code; returns its outcome."""
    return subprocess.run(
        (sys.executable, *arguments),
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
