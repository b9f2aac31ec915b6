"""A real control plane that dies by SIGKILL at a step of a publish: ``python -m tests.controlplane.mortal REGISTRY``.

A step is a line of the control plane's code, the begin of an SQL statement, or a few of SQLite's instructions in the
midst of one. Steps count from the moment that a publish begins. Each line of stdin, ``SOCKET STEP``, has another
one live, forked, which is quicker than started; at its end a line of stdout says ``SIGNAL STEPS``. With step 0 it lives
until it is asked to stop.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import services.controlplane
from lab.transport import run_service
from services.controlplane import __main__ as service
from services.controlplane.publishing.publisher import Publisher

CODE = str(Path(services.controlplane.__file__).parent)
_INSTRUCTIONS = 5


class Fate:
    """Counts steps, and ends this process at one of them."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.steps = 0
        self._begun = False

    def step(self, *_: object) -> int:
        """One more; 0, which tells SQLite to go on."""
        if self._begun:
            self.steps += 1
            if self.steps == self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """See :func:`sys.settrace`."""
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "call" and frame.f_code is Publisher.publish.__code__:
            self._begun = True
        elif event == "line":
            self.step()
        return self.trace

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """As SQLite's own, but its steps count."""
        connection = sqlite3.Connection(*arguments, **options)
        connection.set_trace_callback(self.step)
        connection.set_progress_handler(self.step, _INSTRUCTIONS)
        return connection


def live(registry: str, socket: str, step: int) -> int:
    """A whole life; returns its steps."""
    fate = Fate(step)
    sqlite3.connect = fate.connect  # type: ignore[assignment]  # in this process, which is nobody else's
    sys.argv = ["controlplane", "--listen", f"unix:{socket}", "--registry", registry]
    sys.argv += ["--load-timeout", "5", "--acknowledge-timeout", "5", "--retire-after", "0.02"]
    arguments = service._arguments()
    sys.settrace(fate.trace)
    run_service(lambda stop: service._serve(arguments, stop))
    sys.settrace(None)
    return fate.steps


def main(registry: str) -> None:
    for line in sys.stdin:
        socket, step = line.split()
        steps, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"%d" % live(registry, socket, int(step)))
            os._exit(0)
        os.close(told)
        print(child, flush=True)  # noqa: T201 (a command)
        _, status = os.waitpid(child, 0)
        with os.fdopen(steps) as report:
            print(os.WTERMSIG(status), report.read() or step, flush=True)  # noqa: T201 (a command)


if __name__ == "__main__":
    main(sys.argv[1])
