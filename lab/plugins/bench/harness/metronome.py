"""Measures how busy the machine is while a bench runs: a process that wakes at fixed times notes how late it was.

``python -m lab.plugins.bench.harness.metronome`` beats until its standard input ends, then prints the p99 of its
lateness in ms. It runs at the priority of a bench's driver: if it is late, so are the times that a bench measures, in
an open loop or not.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lab import CHECKOUT, PYTHON

EVERY_S = 0.01
NICENESS = -15  # that of a bench's driver
LATE_MS = 5.0
"""The bound of the checker ``driver`` for the delay of a request."""

_P99 = 0.99


@dataclass(slots=True)
class Beats:
    """How late the metronome was: the p99, ms, known once the bench is over."""

    late_p99_ms: float = 0.0

    @property
    def doubt(self) -> str:
        """Why timings that were taken at that time do not count; empty if they do."""
        if self.late_p99_ms <= LATE_MS:
            return ""
        return f"this machine was busy: a metronome beside the bench was {self.late_p99_ms:.1f} ms late (p99)"


@contextmanager
def metronome() -> Iterator[Beats]:
    """Runs a metronome beside the body."""
    beats = Beats()
    command = [*PYTHON, "-m", "lab.plugins.bench.harness.metronome"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, start_new_session=True
    ) as process:
        try:
            yield beats
        finally:
            said, _ = process.communicate()
            with suppress(ValueError):  # it was killed
                beats.late_p99_ms = float(said)


def p99_of(lateness_s: list[float]) -> float:
    """Returns the 99th percentile, nearest rank upwards, ms; 0 without beats."""
    ordered = sorted(lateness_s)
    return 1e3 * ordered[min(len(ordered) - 1, int(_P99 * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Beats until standard input ends."""
    with suppress(OSError):  # needs a privilege
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    lateness_s: list[float] = []
    due = time.monotonic() + EVERY_S
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        now = time.monotonic()
        lateness_s.append(now - due)
        due = max(due + EVERY_S, now)
    print(p99_of(lateness_s))  # noqa: T201 (this is its interface)


if __name__ == "__main__":
    main()
