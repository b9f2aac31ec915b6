"""Starts, watches and ends the worker processes of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from pathlib import Path

MASTER_HOST = "127.0.0.1"

_POLL_S = 0.02
_END_WITHIN_S = 5.0


class Workers:
    """Worker processes; none if users run in the driver.

    Args:
        plan: the plan's file.
        count: number of workers.
        port: of the master.
    """

    def __init__(self, plan: Path, count: int, port: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "lab.load.locust.worker", str(plan), f"{index}/{count}", str(port)],
                stdin=subprocess.PIPE,  # closes when this process ends, however it ends
                stdout=subprocess.DEVNULL,  # standard output is for the driver's progress
            )
            for index in range(count)
        ]

    def ended(self) -> str:
        """Which worker has ended, and how; empty if all run."""
        for index, process in enumerate(self._processes):
            if process.poll() is not None:
                return f"worker {index} ended with status {process.returncode}"
        return ""

    def end(self) -> None:
        """Returns when all have ended; kills those that do not end in time."""
        give_up = time.monotonic() + _END_WITHIN_S
        while any(process.poll() is None for process in self._processes) and time.monotonic() < give_up:
            gevent.sleep(_POLL_S)
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdin is not None  # noqa: S101 (it is a pipe)
            process.stdin.close()
