"""The processes of a unit: the one that was started, and those that it has started itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def family(pid: int) -> Iterator[int]:
    """Yields a process's id, then those of the descendants that its and their main threads have started.

    From ``/proc``: psutil would read all processes of the machine. Elsewhere than on Linux only the first.
    """
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))
