"""What the page's buttons do: each runs a command of ``lab``, which the page shows and lets people copy."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab import PYTHON
from lab.errors import InputError
from lab.identity.user import PAGE

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.plugins.console.board import Board

_LAB = (*PYTHON, "-c", "from lab.cli import main; main()")
_SHOWN_CHARACTERS = 2_000  # of a command's output, its end


@dataclass(frozen=True, slots=True)
class Action:
    """A command that the page may run.

    Attributes:
        command: its words.
        arguments: names of the values that follow, in order.
        options: names of the values that are given as options, if they are not empty.
        settings: names of the values that are given as ``--set NAME=VALUE``, if they are not empty.
        pauses: whether it reads a line on standard input as a wish to pause, or to go on.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    pauses: bool = False

    def words(self, values: Mapping[str, str]) -> list[str]:
        """The command with these values.

        Raises:
            InputError: a value is missing or unknown, or would be an option.
        """
        if unknown := set(values) - {*self.arguments, *self.options, *self.settings}:
            raise InputError(f"{' '.join(self.command)}: has no {', '.join(sorted(unknown))}; leave it out")
        words = list(self.command)
        for name in self.arguments:
            value = values.get(name, "")
            if not value or value.startswith("-"):
                raise InputError(
                    f"{' '.join(self.command)}: {name}: {value!r} is not a name; names do not begin with a dash"
                )
            words.append(value)
        words += [f"--{name}={values[name]}" for name in self.options if values.get(name)]
        return words + [f"--set={name}={values[name]}" for name in self.settings if values.get(name)]


ACTIONS: Mapping[str, Action] = {
    "inject": Action(("fault", "inject"), ("kind", "target"), ("level",)),
    "heal": Action(("fault", "heal"), ("fault",)),
    "flood": Action(
        ("fault", "inject"), ("kind", "target"), settings=("times", "rate", "seconds", "caller", "topology")
    ),
    "load": Action(("load",), (), ("topology", "caller", "rate", "duration", "drivers", "context")),
    "publish": Action(("routes", "publish"), ("file",), ("comment",)),
    "rollback": Action(("routes", "rollback"), ("revision",)),
    "take back": Action(("routes", "rollback")),
    "play": Action(("play",), (), ("acts", "pause"), pauses=True),
    "roll": Action(("roll",), ("model",), ("to", "steps", "hold", "rate", "topology", "abort-on")),
}
"""By the name that the page gives them."""


class Actions:
    """Runs the page's commands, and posts how each goes as a ``job``.

    Args:
        board: takes the jobs.
        lab: that they are about.
    """

    def __init__(self, board: Board, lab: Lab) -> None:
        self._board, self._lab = board, lab
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    async def act(self, name: str, values: Mapping[str, str]) -> str:
        """Starts a command and returns the number of its job.

        Raises:
            InputError: there is no such action, or a value does not fit.
        """
        if name not in ACTIONS:
            raise InputError(f"{name!r} is not an action; there are {', '.join(ACTIONS)}")
        words = ACTIONS[name].words(values)
        self._count += 1
        job = str(self._count)
        shown = shlex.join(["lab", *words, *(() if self._lab.name == "default" else ("--name", self._lab.name))])
        self._post(job, shown, "running", "")
        process = await asyncio.create_subprocess_exec(
            *_LAB,
            *words,
            stdin=asyncio.subprocess.PIPE if ACTIONS[name].pauses else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LAB_NAME": self._lab.name, "LAB_HOME": str(self._lab.folder.parent.parent), PAGE: "1"},
        )
        self._running[job] = process
        task = asyncio.create_task(self._finish(job, shown, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _finish(self, job: str, shown: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 (it is a pipe)
        output = await process.stdout.read()
        await process.wait()
        del self._running[job]
        state = "done" if process.returncode == 0 else f"ended with status {process.returncode}"
        self._post(job, shown, state, output.decode(errors="replace")[-_SHOWN_CHARACTERS:])

    def _post(self, job: str, shown: str, state: str, output: str) -> None:
        document: dict[str, Any] = {"command": shown, "state": state, "output": output}
        self._board.post("job", {job: document})

    def stop(self, job: str) -> None:
        """Does to a command what Ctrl-C does: a load ends, and is judged."""
        if job in self._running:
            with suppress(ProcessLookupError):
                # What a shell starts in the background ignores Ctrl-C; `lab` takes this for the same.
                self._running[job].terminate()

    def pause(self, job: str) -> None:
        """Lets a command pause, or go on, that can."""
        if job in self._running and (keys := self._running[job].stdin) is not None:
            keys.write(b"\n")

    async def close(self) -> None:
        """Stops all commands and waits for their ends."""
        for job in list(self._running):
            self.stop(job)
        await asyncio.gather(*self._tasks, return_exceptions=True)
