"""Taking down leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lab.runtime.process import ProcessRuntime


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
