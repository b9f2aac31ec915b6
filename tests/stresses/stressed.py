"""A lab under stress, and the load that it is under, by commands of this checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.catalogue import HOME

LAB = (sys.executable, "-c", "from lab.cli import main; main()")
_TIMEOUT_S = 180
_JUDGED = {0, 1, 2, 130}
_DONE = re.compile(r"\b(\d+) done")


class StressError(Exception):
    """A stress could not be carried out."""


class Load:
    """A command that drives load."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        self._words = command
        self._process = subprocess.Popen(
            (*LAB, *command), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._said: list[str] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._heard:
                self._said.append(line)
                self._heard.notify_all()
        with self._heard:
            self._said.append("")
            self._heard.notify_all()

    def answered(self, after: int = 1) -> None:
        """Returns once so many requests are done, or the load is over."""

        def enough() -> bool:
            ended = self._said[-1:] == [""]
            return ended or any(int(number) >= after for line in self._said for number in _DONE.findall(line))

        with self._heard:
            if not self._heard.wait_for(enough, _TIMEOUT_S):
                raise StressError(f"lab {' '.join(self._words)}: not {after} done in {_TIMEOUT_S} s")

    def signal(self, number: int) -> None:
        """Sends a signal to the command."""
        self._process.send_signal(number)

    def ended(self) -> None:
        """Returns once the command has ended."""
        status = self._process.wait(_TIMEOUT_S)
        self._reader.join(_TIMEOUT_S)
        if status not in _JUDGED:
            raise StressError(f"lab {' '.join(self._words)}: {''.join(self._said)[-500:]}")


class Stressed:
    """A lab of its own.

    Args:
        name: of the lab.
        home: a folder of its own.

    Attributes:
        environment: of its commands.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.environment = {**os.environ, "LAB_HOME": str(home), "LAB_NAME": name}

    @property
    def runs(self) -> list[Path]:
        """The folders of its runs."""
        found = (self.home / "runs" / self.name).glob("2*Z")
        return sorted(each for each in found if each.is_dir())

    def up(self, spec: str, topologies: str) -> None:
        """Brings it up by a spec of the planted bugs."""
        self.run("up", "--runtime", "process", "--spec", str(HOME / spec), "--topology", topologies)

    def down(self) -> None:
        """Takes it down; does nothing if it is not up."""
        subprocess.run((*LAB, "down"), env=self.environment, capture_output=True, timeout=_TIMEOUT_S, check=False)

    def run(self, *command: str) -> None:
        """Runs a command."""
        done = subprocess.run(
            (*LAB, *command), env=self.environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise StressError(f"lab {' '.join(command)}: {(done.stderr or done.stdout)[-500:]}")

    def fault(self, kind: str, target: str, *options: str) -> None:
        """Injects a fault."""
        self.run("fault", "inject", kind, target, *options)

    def start(self, *command: str) -> Load:
        """Starts a command that drives load."""
        return Load(command, self.environment)

    def load(self, topology: str, *options: str) -> Load:
        """Starts load, of 12 s and 60 requests a second unless the options say otherwise."""
        usual = {"--rate": "60", "--duration": "12"}
        kept = [word for name, value in usual.items() if name not in options for word in (name, value)]
        return self.start("load", "--topology", topology, *kept, *options)

    @contextmanager
    def beside(self) -> Iterator[Stressed]:
        """A second lab in the same folder, whose runs are among this one's."""
        other = Stressed(f"{self.name}-b", self.home)
        try:
            yield other
            for run in other.runs:
                run.rename(self.home / "runs" / self.name / run.name)
        finally:
            other.down()
