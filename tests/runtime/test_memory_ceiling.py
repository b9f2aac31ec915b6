"""A unit that exceeds its memory ceiling is killed, says so in one line, and is started again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import InputError
from lab.lab import DEFAULT_SPEC, Lab
from lab.ops.restart import restart
from lab.roles import CONTROL_PLANE, Plan, Port, Unit
from lab.runtime.process import ProcessRuntime, memory_watch, processes
from lab.runtime.process.watcher import Watcher, resident
from lab.runtime.state import STATE_FILE, LabState
from lab.spec import override, read_spec
from lab.waiting import consistently, eventually
from tests.lab_command import run_lab
from tests.labs import states, unique_lab

WITHIN = timedelta(seconds=60)
CEILING_MB = 100
# Grows once: the unit that is started instead finds the file gone.
GROWS = """
import pathlib, sys, time
file, kept = pathlib.Path(sys.argv[1]), []
while True:
    if file.exists():
        file.unlink()
        while True:
            kept.append(bytes(1) * 2**20)
            time.sleep({pause_s})
    time.sleep(0.02)
"""


@pytest.fixture
def grow(tmp_path: Path) -> Path:
    return tmp_path / "grow"


@pytest.fixture
def watched(tmp_path: Path, grow: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab of one unit that grows when it is asked to, by the file."""
    monkeypatch.setenv(memory_watch.CEILING, str(CEILING_MB))
    lab = unique_lab(tmp_path)
    lab.folder.mkdir(parents=True)
    address = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")
    # As a control plane, as every lab has one; it does not answer.
    unit = Unit("grower", CONTROL_PLANE, ("python", "-c", GROWS.format(pause_s=0.005), str(grow)), address)
    spec = override(read_spec(DEFAULT_SPEC), security="plaintext")
    state = LabState("process", "lab.toml", spec, Plan((unit,), {}, {}))
    runtime = ProcessRuntime(lab.folder, "plaintext")
    try:
        runtime.watch()
        for name, running in runtime.start([unit]):
            state.with_running(name, running).save(lab.folder / STATE_FILE)
        yield lab
    finally:
        lab.down()


def pid_of(lab: Lab) -> int:
    return LabState.of(lab.folder).running["grower"].pid


def test_it_is_killed_with_a_line_and_started_again_and_counted(watched: Lab, grow: Path) -> None:
    before = pid_of(watched)

    grow.touch()

    eventually("another one runs", lambda: pid_of(watched) != before and states(watched), within=WITHIN)
    assert states(watched) == {"grower": "running"}
    [unit] = watched.status().units
    [line] = unit.over_ceiling
    assert line.endswith(f"MB, over its memory ceiling of {CEILING_MB} MB")
    assert line in (watched.folder / "units" / "grower" / "log").read_text()
    assert run_lab(watched, "status").stdout.splitlines()[-1] == (
        f"grower: over its memory ceiling, times: 1; last: {line}"
    )


def test_the_watch_ends_with_the_lab_and_begins_once(watched: Lab) -> None:
    runtime = ProcessRuntime(watched.folder, "plaintext")
    runtime.watch()
    assert len(processes.carrying(memory_watch.MARK, str(watched.folder))) == 1

    watched.down()

    assert processes.carrying(memory_watch.MARK, str(watched.folder)) == []


def test_a_unit_that_another_command_killed_stays_down(watched: Lab) -> None:
    watched.units.kill("grower")

    consistently(
        "it is not started", lambda: states(watched), during=timedelta(seconds=1), until={"grower": "exited"}.__eq__
    )


def test_a_process_that_got_the_id_of_a_unit_is_spared(watched: Lab, grow: Path) -> None:
    grow = grow.with_name("other")
    other = Unit("other", "model", ("python", "-c", GROWS.format(pause_s=0.05), str(grow)), Port("", "", ""))
    [(_, running)] = ProcessRuntime(watched.folder, "plaintext").start([other])
    state = LabState.of(watched.folder)
    replace(state, running={"grower": running}).save(watched.folder / STATE_FILE)
    grow.touch()

    eventually("it is over the ceiling", lambda: resident(running.pid) > (CEILING_MB + 20) * 2**20, within=WITHIN)
    assert ProcessRuntime(watched.folder, "plaintext").states({"other": running}) == {"other": "running"}


def test_the_kernel_holds_a_unit_where_the_watch_cannot(watched: Lab, grow: Path) -> None:
    memory_watch.end(watched.folder)
    runtime, before = ProcessRuntime(watched.folder, "plaintext"), LabState.of(watched.folder).running

    grow.touch()

    eventually("it has ended", lambda: runtime.states(before), within=WITHIN, until={"grower": "exited"}.__eq__)
    assert runtime.last_words("grower").endswith("MemoryError")


def test_a_lab_that_is_down_is_not_started_again(tmp_path: Path) -> None:
    restart(tmp_path / ".lab" / "gone", "grower")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "63", "-5", "1e3", "9" * 23, "1000001", "x", "²"])
def test_a_ceiling_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory_watch.CEILING, text)

    with pytest.raises(InputError, match=r"^LAB_MEMORY_CEILING_MB: .*: use whole MB from 64 to 1000000$"):
        memory_watch.ceiling_mb()


def test_a_unit_that_is_killed_again_and_again_is_down_for_seconds_only(tmp_path: Path) -> None:
    watch = Watcher(tmp_path, STATE_FILE)

    pauses = []
    for _ in range(20):
        before = time.monotonic()
        watch._ended("grower", "killed")
        pauses.append(watch._due["grower"] - before)

    assert pauses[0] < 1
    assert max(pauses) < 5
