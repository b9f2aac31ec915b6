"""Starves processes of processor time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def starving(pids: Iterable[int]) -> Iterator[None]:
    """For the block, the processes get only what others leave, and others leave nothing: each core has a busy loop."""
    chosen = list(pids)
    hogs = [subprocess.Popen((sys.executable, "-c", "while True: pass")) for _ in range(os.cpu_count() or 1)]
    try:
        _schedule(chosen, os.SCHED_IDLE)
        yield
    finally:
        _schedule(chosen, os.SCHED_OTHER)
        for hog in hogs:
            hog.kill()
            hog.wait()


def _schedule(pids: Iterable[int], policy: int) -> None:
    """Of every thread."""
    for pid in pids:
        with suppress(OSError):  # the process or the thread has ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(int(task.name), policy, os.sched_param(0))
