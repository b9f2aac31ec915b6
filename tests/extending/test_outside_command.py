"""A distribution adds a command by an entry point, and one that takes a name of the lab's is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from docs.examples import own_command
from lab.lab import Lab
from tests.lab_command import LAB, run_lab


def installed(folder: Path, name: str) -> dict[str, str]:
    """An environment in which the example is installed, with its command under a name."""
    (folder / "own_command.py").write_text(Path(own_command.__file__).read_text())
    metadata = folder / "own_command-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-command\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[routing_lab.commands]\n{name} = own_command:callers\n")
    return {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "120"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAB, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=100)


def test_it_runs_and_stands_in_the_help(small_lab: Lab, tmp_path: Path) -> None:
    environment = installed(tmp_path, "who-calls") | {
        "LAB_NAME": small_lab.name,
        "LAB_HOME": str(small_lab.folder.parent.parent),
    }

    done = run(environment, "who-calls", "ContinueWatchingRanking")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ContinueWatchingRanking: homepage\n", "")
    assert "List the callers of each use case." in run(environment, "--help").stdout


def test_a_name_of_the_labs_is_refused(tmp_path: Path) -> None:
    done = run(installed(tmp_path, "up"), "no-such-command")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: command 'up' from outside has the name of one of the lab's; rename it\n"


def test_it_may_have_a_name_of_two_words(tmp_path: Path) -> None:
    done = run(installed(tmp_path, "who-calls list"), "who-calls", "list", "--help")

    assert done.returncode == 0
    assert "Usage: lab who-calls list" in done.stdout


def test_one_that_judges_runs_says_by_status_3_that_it_could_not() -> None:
    for mistake in (["--clusters", "0"], ["--plugin", "/nonexistent.py"]):
        assert run_lab(None, "scale", *mistake).returncode == 3
    assert run_lab(None, "capacity", "--payload", "none").returncode == 1
