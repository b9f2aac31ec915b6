"""The first process of a container: it starts the unit, and again after a kill of the lab's."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.plugins.kubernetes.pods import ATTENDED, HELD, STARTED_VARIABLE, UNIT_VARIABLE
from lab.waiting import eventually

WITHIN = timedelta(seconds=20)
NAME = "gateway-1"


class First:
    """The first process, whose unit sleeps."""

    def __init__(self, folder: Path, *unit: str) -> None:
        self.held = folder / "held"
        self.process = subprocess.Popen(
            ["sh", "-c", ATTENDED.replace(HELD, str(self.held)), *(unit or ("sleep", "600"))],
            env={"PATH": "/usr/bin:/bin", UNIT_VARIABLE: NAME},
        )

    def unit(self) -> psutil.Process:
        """The unit, once it runs."""

        def found() -> list[psutil.Process]:
            with suppress(psutil.NoSuchProcess):  # one that has just ended, a zombie among them
                children = psutil.Process(self.process.pid).children()
                return [each for each in children if each.environ().get(STARTED_VARIABLE) == NAME]
            return []

        return eventually("the unit runs", found, within=WITHIN, until=bool)[0]


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    started = First(tmp_path)
    yield started
    for each in psutil.Process(started.process.pid).children() if started.process.poll() is None else ():
        each.kill()
    started.process.kill()
    started.process.wait()


def test_a_unit_that_is_held_starts_again_in_its_container(first: First) -> None:
    killed = first.unit()
    first.held.touch()
    killed.kill()
    eventually("it has ended", killed.is_running, within=WITHIN, until=lambda runs: not runs)
    assert first.process.poll() is None

    first.held.unlink()

    assert first.unit().pid != killed.pid


def test_a_unit_that_is_killed_by_anybody_else_ends_its_container(first: First) -> None:
    first.unit().kill()

    assert first.process.wait(WITHIN.seconds) == 128 + signal.SIGKILL


def test_a_unit_that_ends_by_itself_ends_its_container_with_its_status(tmp_path: Path) -> None:
    assert First(tmp_path, "sh", "-c", "exit 7").process.wait(WITHIN.seconds) == 7


def test_a_unit_has_its_time_to_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(5)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\nsignal.pause()"
    )
    first = First(tmp_path, sys.executable, "-c", script)
    eventually("the unit runs", ready.exists, within=WITHIN, until=bool)

    first.process.terminate()

    assert first.process.wait(WITHIN.seconds) == 5


def test_a_container_ends_while_its_unit_is_held(first: First) -> None:
    unit = first.unit()
    first.held.touch()
    unit.kill()

    first.process.terminate()

    assert first.process.wait(WITHIN.seconds) in (0, -signal.SIGTERM)
