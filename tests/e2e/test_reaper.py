"""Whatever ends pytest, nothing that its tests have started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab import CHECKOUT
from lab.lab import Lab
from lab.ops.reaper import reaping
from lab.waiting import eventually

WITHIN = timedelta(seconds=60)
SUITE = """
import subprocess, sys
from pathlib import Path
from threading import Event

from tests.lab_command import run_lab

def test_that_never_ends(new_lab, mini_spec, tmp_path):
    beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    by_hand, by_command = new_lab(), new_lab()
    by_hand.up(spec=mini_spec)
    assert run_lab(by_command, "up", "--spec", str(mini_spec)).returncode == 0
    Path({ready!r}).touch()
    Event().wait()
"""


def labs_in(suite: Path) -> list[str]:
    """Folders of labs; one that goes while this looks is left out, where `rglob` would raise."""
    return [folder for folder, _, _ in os.walk(suite) if folder.endswith("/.lab")]


def started_by(suite: Path) -> dict[int, list[str]]:
    """Processes that something in the suite's folder is known to, guards apart: id → command line."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if any(str(suite) in value for value in process.environ().values()) and "lab.ops.reaper" not in command:
                found[process.pid] = command
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGKILL, ("-n", "0")), (signal.SIGTERM, ("-n", "1"))], ids=["killed", "terminated"]
)
def test_a_pytest_that_is_ended_leaves_nothing(
    tmp_path: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    suite, ready = tmp_path / "suite", tmp_path / "ready"
    suite.mkdir()
    (suite / "test_some.py").write_text(SUITE.format(ready=str(ready)))
    (suite / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        f"--basetemp={suite / 'temp'}",
        *options,
        str(suite),
    ]
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:

        def look() -> bool:
            assert program.poll() is None, program.stdout and program.stdout.read()
            return ready.exists()

        eventually("two labs are up", look, within=WITHIN)
        units = [each for each in started_by(suite).values() if "models.stub" in each]
        assert len(units) == 2
        assert [each for each in started_by(suite).values() if "import time; time.sleep(600)" in each]
        os.killpg(program.pid, number)  # as `timeout` does
        program.wait()

        eventually("nothing is left", lambda: started_by(suite), within=WITHIN, until=lambda left: not left)
    eventually("no lab is left", lambda: labs_in(suite), within=WITHIN, until=lambda left: not left)


def test_a_block_that_ends_leaves_no_process_that_it_began(own_lab: Lab, mini_spec: Path, tmp_path: Path) -> None:
    with reaping(tmp_path):
        own_lab.up(spec=mini_spec)
        beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    assert beside.wait() == -signal.SIGKILL
    assert not own_lab.folder.exists()
    assert started_by(tmp_path) == {}
