"""Completions of the command line."""

import os
import subprocess
from pathlib import Path

import pytest

from lab import CHECKOUT
from tests.lab_command import LAB


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("lab do", ["doctor", "down"]),
        ("lab load --topology mesh", ["mesh", "mesh-picker", "mesh-unleased"]),
        ("lab call --caller pl", ["playback"]),
        ("lab call Sea", ["SearchRanking"]),
        ("lab routes explain Up", ["UpNext"]),
        ("lab call --caller nobody", []),
        ("lab fault inject ki", ["kill"]),
        ("lab fault heal sl", []),
    ],
)
def test_a_shell_is_offered_what_fits(typed: str, offered: list[str], tmp_path: Path) -> None:
    words = typed.split()
    done = subprocess.run(
        [LAB],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "LAB_HOME": str(tmp_path),
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1),
            "_LAB_COMPLETE": "complete_bash",
        },
    )

    assert sorted(offered) == sorted(done.stdout.split())
    assert done.stderr == ""


def test_it_can_be_installed_by_the_command_itself() -> None:
    # Else it looks for the shell that it was called from, which may be one that cannot complete.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(LAB), "--show-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, env=environment)

    assert "complete " in done.stdout
