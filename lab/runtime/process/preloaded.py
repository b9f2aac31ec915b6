"""``python -P preloaded.py MODULE… LONGEST_COMMAND``: imports what units need once, and forks them.

Each line of standard input is one unit, in JSON: its command from the module on, what ``ps`` shows for that, its
environment, and its log. The answer is the unit's process id. This process ends with its input.

It is run by its path, as all that is imported here is in the memory of the units.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import runpy
import sys
from importlib import import_module
from pathlib import Path

from lab import clock

MARK = "LAB_UNIT"
"""Environment variable of a unit: the lab's folder and the unit's name, with a colon between."""

_ADDRESSES = slice(45, 49)
"""Of the fields in /proc/self/stat after the name: begin and end of the arguments, and of the environment."""


def main(modules: list[str]) -> None:
    """Forks a unit for each line, and returns in a unit when that has ended."""
    for name in (f"{module}.__main__" for module in modules):
        import_module(name)
        del sys.modules[name]  # to be run
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("an import has started a thread, which units would lack")
    title, mark = _places()
    gc.freeze()  # else the collector of each unit would write to the pages that all share
    for line in sys.stdin:
        if not (pid := os.fork()):
            argv, shown, environment, log = json.loads(line)
            _detach(log)
            # If the last byte is not zero, the kernel shows the text until the first zero, as for setproctitle(3).
            _write(title, shown, end=b" ")
            _write(mark, f"{MARK}={environment[MARK]}")
            os.environ.clear()
            os.environ.update(environment)
            clock.follow(environment.get(clock.VARIABLE, ""))
            sys.argv = argv
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
            return
        os.write(1, f"{pid}\n".encode())


def _places() -> tuple[range, range]:
    """Where the kernel reads what ``ps`` shows, and the mark, which is the last variable of the environment."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arguments, arguments_end, environment, environment_end = map(int, fields[_ADDRESSES])
    before = ctypes.string_at(environment, environment_end - environment).rindex(f"{MARK}=".encode())
    return range(arguments, arguments_end), range(environment + before, environment_end)


def _write(place: range, text: str, end: bytes = b"\0") -> None:
    """Writes a text over what was in memory there when this process started."""
    size = len(place)
    ctypes.memmove(place.start, os.fsencode(text)[: size - 1].ljust(size - 1, b"\0") + end, size)


def _detach(log: str) -> None:
    """Gives this process its own session, and the log for its output."""
    os.setsid()
    for number, file, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_APPEND)):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(1, 2)


if __name__ == "__main__":
    main(sys.argv[1:-1])
