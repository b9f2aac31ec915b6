"""Sessions of pytest in processes of their own."""

import subprocess
import sys
from pathlib import Path


def run_pytest(
    *arguments: object, cwd: Path, imports: Path, timeout_s: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a session that may import from a folder, and returns its outcome."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, arguments)],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(imports), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
