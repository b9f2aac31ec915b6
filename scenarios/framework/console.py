"""How scenarios that are under way are shown: a live list on a terminal, else plain lines, each worker's with its name.

pytest takes standard output and error away while a test runs, so both are kept as they were when it began.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

if TYPE_CHECKING:
    from scenarios.framework.scenario import Teller


def make_teller(worker: str | None) -> Teller:
    """For this process.

    Args:
        worker: name of the worker of pytest-xdist that this is, None if it is none.
    """
    if worker is not None:
        return PlainTeller(os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2), f"[{worker}] ")
    descriptor = os.dup(1)
    return LiveTeller(descriptor) if os.isatty(descriptor) else PlainTeller(descriptor, "", before="\n")


class PlainTeller:
    """A line for each scenario and each step that begins, written in one piece.

    Args:
        descriptor: of the open file to write to; closed in the end.
        prefix: of each line.
        before: each scenario, where the line that pytest is at is not over.
    """

    def __init__(self, descriptor: int, prefix: str, *, before: str = "") -> None:
        self._descriptor = descriptor
        self._prefix, self._before = prefix, before

    def begin(self, title: str) -> None:
        """A scenario begins."""
        self._say(f"{self._before}{title}")

    def step(self, number: int, title: str) -> None:
        """One of its steps begins."""
        self._say(f"  {number}. {title}")

    def step_over(self, *, ok: bool, took_s: float) -> None:
        """That step ends; only a failure is worth a line."""
        if not ok:
            self._say(f"  … failed after {took_s:.1f} s")

    def end(self, word: str = "") -> None:
        """The scenario is over, and this is to be said of it."""
        if word:
            self._say(f"  … {word}")

    def close(self) -> None:
        """So are all."""
        os.close(self._descriptor)

    def _say(self, line: str) -> None:
        os.write(self._descriptor, f"{self._prefix}{line}\n".encode())


class LiveTeller:
    """A list of steps, each with its time, that grows as they go.

    Args:
        descriptor: of the terminal; closed in the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w")
        self._console = Console(file=self._file, highlight=False)
        self._live: Live | None = None
        self._lines: list[Text] = []
        self._current = ""
        self._began = 0.0

    def begin(self, title: str) -> None:
        """A scenario begins."""
        self._lines = [Text(f"\n{title}", style="bold")]
        self._current = ""
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8)
        self._live.start()

    def step(self, number: int, title: str) -> None:
        """One of its steps begins."""
        self._current, self._began = f"{number}. {title}", time.monotonic()

    def step_over(self, *, ok: bool, took_s: float) -> None:
        """That step ends."""
        mark, style = ("✓", "green") if ok else ("✗", "bold red")
        self._lines.append(Text.assemble(("  " + mark, style), f" {self._current} ", (f"{took_s:.1f} s", "dim")))
        self._current = ""

    def end(self, word: str = "") -> None:
        """The scenario is over, and this is to be said of it."""
        if word:
            self._lines.append(Text(f"  … {word}"))
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """So are all."""
        self._file.close()

    def _render(self) -> Group:
        if not self._current:
            return Group(*self._lines)
        waiting = Text.assemble(self._current, (f" {time.monotonic() - self._began:.1f} s", "dim"))
        return Group(*self._lines, Spinner("dots", text=waiting, style="cyan"))
