"""Runs a load driver as a process of this machine: one that sends the requests, or one that coordinates others."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lab import PYTHON
from lab.load.coordinator import COMMANDS
from lab.load.plan import PLAN_FILE
from lab.load.stop_signals import held_back

if TYPE_CHECKING:
    from lab.runtime.cancellation import CancelToken


def run_here(
    run: Path,
    on_line: Callable[[str], None],
    *,
    errors: TextIO | None,
    cancel_token: CancelToken,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs the driver to its end and returns its exit status.

    Ctrl-C is passed on to the driver, which then ends in its own way.

    Args:
        run: folder with the plan; receives what the driver records.
        on_line: called with each line of progress.
        errors: file that gets the driver's standard error; this process's standard error if None.
        cancel_token: cancels the driver from another thread.
        environment: of the driver; this process's own if None.
    """
    command = [*PYTHON, "-m", "lab.load.driver", str(run / PLAN_FILE)]
    with held_back():
        # In its own session, as a terminal's Ctrl-C would reach it a second time.
        driver = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
        )
    with driver as program:
        assert program.stdout is not None  # noqa: S101 (it is a pipe)
        with cancel_token.notifying(lambda: program.send_signal(signal.SIGINT)):
            while True:
                try:
                    for line in iter(program.stdout.readline, ""):
                        on_line(line)
                    return program.wait()
                except KeyboardInterrupt:
                    program.send_signal(signal.SIGINT)
                except BaseException:
                    program.kill()
                    raise


def coordinate_from_here(
    run: Path,
    drivers: Sequence[tuple[str, Sequence[str]]],
    on_line: Callable[[str], None],
    *,
    errors: TextIO | None,
    cancel_token: CancelToken,
) -> int:
    """Coordinates drivers that are elsewhere, as :func:`run_here` does for those of this machine.

    Args:
        run: folder with the plan; receives the summary, but not the drivers' records.
        drivers: name of each, and the command of this machine whose input and output are the driver's.
        on_line: as for :func:`run_here`.
        errors: likewise.
        cancel_token: likewise.
    """
    commands = run / COMMANDS
    commands.write_text(json.dumps([(name, list(command)) for name, command in drivers]))
    try:
        return run_here(run, on_line, errors=errors, cancel_token=cancel_token)
    finally:
        commands.unlink()
