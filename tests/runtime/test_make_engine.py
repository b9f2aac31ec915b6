from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab import CHECKOUT

SCRIPT = CHECKOUT / "compose" / "engine.sh"


def run(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT)], env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.usefixtures("engine")
def test_where_an_engine_answers_it_does_nothing_and_says_so() -> None:
    result = run("/usr/local/bin:/usr/bin:/bin")

    assert result.returncode == 0, result.stderr
    [line] = result.stdout.splitlines()
    assert "engine ready" in line


def test_where_it_can_do_nothing_one_line_says_what_to_install(tmp_path: Path) -> None:
    for tool in ("id", "tail"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")

    result = run(str(tmp_path))

    assert result.returncode == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("make engine: install Docker (Engine 25 or newer, with the compose plugin) and start it")
