"""The wheel alone, in an empty folder: a scenario of one's own runs on a lab that it brings up."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab import CHECKOUT


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the wheel's packages come before this checkout's."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "installed")}


@pytest.mark.timeout(300)
def test_a_scenario_of_ones_own_runs_from_an_empty_folder(environment: dict[str, str], tmp_path: Path) -> None:
    def run(*command: object) -> str:
        argv = [sys.executable, *map(str, command)]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-c", "from lab.cli import main; main()", "new", "scenario", "mine")
    options = ("--lab-topology", "mesh", "--lab-runtime", "process")
    assert "1 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "mine", *options)
    assert (tmp_path / "routing-lab" / "runs" / "scenarios" / "latest").is_dir()
