"""Shows running scenarios: a live list on a terminal, else plain lines, prefixed with the worker's name.

pytest captures standard output and error while a test runs, so displays write to duplicates made before.
"""

from __future__ import annotations

import os
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text


class PlainDisplay:
    """Writes one line for each scenario and each step that begins, in one piece.

    Args:
        descriptor: file descriptor to write to; closed in the end.
        prefix: what each line begins with.
        before: written before each scenario, to end the line that pytest has begun.
    """

    def __init__(self, descriptor: int, prefix: str, *, before: str = "") -> None:
        self._descriptor = descriptor
        self._prefix, self._before = prefix, before

    def begin(self, title: str) -> None:
        """A scenario begins."""
        self._say(f"{self._before}{title}")

    def step(self, number: int, title: str) -> None:
        """A step begins."""
        self._say(f"  {number}. {title}")

    def step_over(self, *, ok: bool, took_s: float) -> None:
        """A step ends; only a failure gets a line."""
        if not ok:
            self._say(f"  … failed after {took_s:.1f} s")

    def end(self, word: str = "") -> None:
        """The scenario ends, with a remark if ``word`` is given."""
        if word:
            self._say(f"  … {word}")

    def close(self) -> None:
        """Releases the output."""
        os.close(self._descriptor)

    def _say(self, line: str) -> None:
        os.write(self._descriptor, f"{self._prefix}{line}\n".encode())


class LiveDisplay:
    """Draws a growing list of steps with their times.

    Args:
        descriptor: the terminal's file descriptor; closed in the end.
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
        """A step begins."""
        self._current, self._began = f"{number}. {title}", time.monotonic()

    def step_over(self, *, ok: bool, took_s: float) -> None:
        """A step ends."""
        mark, style = ("✓", "green") if ok else ("✗", "bold red")
        self._lines.append(Text.assemble(("  " + mark, style), f" {self._current} ", (f"{took_s:.1f} s", "dim")))
        self._current = ""

    def end(self, word: str = "") -> None:
        """The scenario ends, with a remark if ``word`` is given."""
        if word:
            self._lines.append(Text(f"  … {word}"))
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """Releases the output."""
        self._file.close()

    def _render(self) -> Group:
        if not self._current:
            return Group(*self._lines)
        waiting = Text.assemble(self._current, (f" {time.monotonic() - self._began:.1f} s", "dim"))
        return Group(*self._lines, Spinner("dots", text=waiting, style="cyan"))


Display = PlainDisplay | LiveDisplay
"""Shows the progress of a scenario."""


def make_display(worker: str | None) -> Display:
    """The display for this process.

    Args:
        worker: name of this pytest-xdist worker, None outside of workers.
    """
    if worker is not None:
        return PlainDisplay(os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2), f"[{worker}] ")
    descriptor = os.dup(1)
    return LiveDisplay(descriptor) if os.isatty(descriptor) else PlainDisplay(descriptor, "", before="\n")
