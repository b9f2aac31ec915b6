"""Taking down leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab.errors import UnitError
from lab.runtime.process import ProcessRuntime, processes
from lab.waiting import eventually
from tests.missing import missing

WITHIN = timedelta(seconds=60)


def test_a_process_with_the_number_of_one_that_has_ended_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    environment = {**os.environ, "LAB_UNIT": f"{tmp_path}:some-unit"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as unit:
        try:
            assert unit.stdout is not None
            unit.stdout.readline()
            # As psutil remembers whoever had the number before.
            [remembered] = [each for each in psutil.process_iter() if each.pid == unit.pid]
            monkeypatch.setattr(remembered, "_ident", (unit.pid, 0.0))

            assert ProcessRuntime(tmp_path, "plaintext").sweep() == 1
            assert not psutil.pid_exists(unit.pid)
        finally:
            unit.kill()


def test_the_last_words_of_an_envoy_that_aborted_are_its_reason(tmp_path: Path) -> None:
    log = tmp_path / "units" / "sidecar" / "log"
    log.parent.mkdir(parents=True)
    stack = [f"[2026-01-01 00:00:00.000][1][critical][backtrace] [b.h:167] #{n}: [0x55deb524e6dc]" for n in range(9)]
    log.write_text("\n".join(["[critical][assert] [watcher.cc:19] assert failure: inotify_fd_ >= 0", *stack]))

    words = ProcessRuntime(tmp_path, "plaintext").last_words("sidecar")

    assert words == "[critical][assert] [watcher.cc:19] assert failure: inotify_fd_ >= 0"


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the mark of a lab in ``tmp_path``."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    environment = {**os.environ, "LAB_UNIT": f"{tmp_path}:some-unit"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def frozen(unit: subprocess.Popen[bytes]) -> Iterator[int]:
    """A unit that the kernel has frozen: it takes no signal, SIGKILL neither, until it is thawed."""
    group = Path("/sys/fs/cgroup/freezer") / f"lab-test-{unit.pid}"
    try:
        group.mkdir()
    except OSError as error:
        missing(f"no freezer of control groups, version 1: {error}")
    try:
        (group / "cgroup.procs").write_text(str(unit.pid))
        (group / "freezer.state").write_text("FROZEN")
        eventually("it is frozen", lambda: "FROZEN" in (group / "freezer.state").read_text(), within=WITHIN)
        yield unit.pid
    finally:
        (group / "freezer.state").write_text("THAWED")
        unit.kill()
        unit.wait()
        group.rmdir()


def test_a_process_that_the_kernel_holds_is_named_and_does_not_hold_the_sweep(frozen: int, tmp_path: Path) -> None:
    with pytest.raises(UnitError, match=rf"killed, but the kernel has not ended them yet: {frozen} \("):
        ProcessRuntime(tmp_path, "plaintext").sweep()


def test_a_unit_that_the_kernel_holds_is_stalled_until_it_lets_go(frozen: int, tmp_path: Path) -> None:
    runtime, running = ProcessRuntime(tmp_path, "plaintext"), {"some-unit": processes.running(frozen)}
    assert runtime.states(running) == {"some-unit": "stalled"}

    (Path("/sys/fs/cgroup/freezer") / f"lab-test-{frozen}" / "freezer.state").write_text("THAWED")

    eventually(
        "it runs", lambda: runtime.states(running), within=WITHIN, until=lambda seen: seen == {"some-unit": "running"}
    )


def test_a_process_whose_environment_cannot_be_read_does_not_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = threading.Event()
    monkeypatch.setattr(psutil.Process, "environ", lambda _: readable.wait(WITHIN.total_seconds()) and {})
    try:
        with pytest.raises(UnitError, match="this machine is stalled: its processes could not be listed"):
            ProcessRuntime(tmp_path, "plaintext").sweep()
    finally:
        readable.set()


def test_a_clock_that_jumps_makes_no_unit_seem_to_have_ended(
    unit: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, running = ProcessRuntime(tmp_path, "plaintext"), {"some-unit": processes.running(unit.pid)}
    now = psutil.boot_time()

    for jump_s in (-3600.0, 1.0, 3600.0):
        # As the kernel derives it from the clock.
        monkeypatch.setattr(psutil, "boot_time", lambda jump_s=jump_s: now + jump_s)
        monkeypatch.setattr("psutil._pslinux.boot_time", psutil.boot_time)
        assert runtime.states(running) == {"some-unit": "running"}
