"""The ``lab`` command, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.lab import Lab

LAB = Path(sys.executable).parent / "lab"


def run_lab(lab: Lab | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command on a lab, or on none, and returns its outcome."""
    environment = {} if lab is None else {"LAB_NAME": lab.name, "LAB_HOME": str(lab.folder.parent.parent)}
    return subprocess.run(
        [LAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LAB_RUNTIME": "process", **environment},
    )
