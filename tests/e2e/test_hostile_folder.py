"""Commands that run in a folder of someone else run no code from it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lab import CHECKOUT
from tests.lab_command import LAB, PATH

PLANTED = ("lab", "services", "models", "scenarios", "json", "grpc", "uvloop", "locust", "docs")
COMMANDS = (
    "call ContinueWatchingRanking --topology mesh",
    "load --topology mesh --rate 20 --duration 1 --drivers 2",
    "load --engine locust --workers 1 --topology mesh --rate 20 --duration 1",
    "fault inject kill ml-cluster-1-a --for 1",
    "status",
    "check {home}/runs/default/latest",
    "report {home}/runs/default/latest",
    "doctor",
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with packages that end the process that imports them, and write down that they ran."""
    for name in PLANTED:
        package = tmp_path / "shared" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} '); exit(9)\n")
    return tmp_path / "shared"


def test_no_command_runs_what_lies_in_the_current_folder(hostile: Path, mini_spec: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    def run(command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": PATH, "LAB_HOME": str(tmp_path / "home")}
        argv = [str(LAB), *command.split()]
        return subprocess.run(
            argv, cwd=hostile, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    try:
        for command in (f"up --runtime process --spec {mini_spec}", *COMMANDS):
            ended = run(command.format(home=tmp_path / "home"))
            assert not ran.exists(), (command, ran.read_text())
            assert ended.returncode in {0, 2}, (command, ended.stderr)
    finally:
        run("down")


def test_what_the_lab_starts_ignores_the_current_folder() -> None:
    sources = (path for folder in ("lab", "services", "models") for path in (CHECKOUT / folder).rglob("*.py"))
    assert [path for path in sources if re.search(r'sys\.executable, "-[mc]"', path.read_text())] == []
