"""``python watcher.py LAB STATE_FILE CEILING_MB``: kills units over their memory ceiling, and has them started again.

It uses the standard library only and is run by its path, as it runs beside every lab: it takes 10 MB. A unit is started
again by ``lab.ops.restart``. It ends when the lab's state file is gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

EVENTS = "over-ceiling.log"
"""In a unit's folder: a line for each time that the unit was killed."""

_INTERVAL_S = 0.2
_PATIENCE_S = 5.0
_MOST_PAUSE_S = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 2**20


class Watcher:
    """The memory watch of one lab.

    Args:
        lab: the lab's folder.
        state: name of the state file in it.
        ceiling: of each unit, bytes.
    """

    def __init__(self, lab: Path, state: str, ceiling: int) -> None:
        self._lab, self._state, self._ceiling = lab, lab / state, ceiling
        self._read_at: tuple[int, int] | None = None
        self._pids: dict[str, int] = {}
        self._killed: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._restarts: list[subprocess.Popen[bytes]] = []

    def run(self) -> None:
        """Watches until the state file has been gone for 5 s, which it also is before the first unit starts."""
        seen = time.monotonic()
        while time.monotonic() - seen < _PATIENCE_S:
            with suppress(OSError, ValueError, KeyError):
                self._read()
                seen = time.monotonic()
            for unit, pid in self._pids.items():
                size = resident(pid)
                if size > self._ceiling and self._is_unit(pid, unit):
                    self._kill(unit, pid, size)
            self._start_those_due()
            time.sleep(_INTERVAL_S)

    def _read(self) -> None:
        found = self._state.stat()
        if self._read_at != (found.st_mtime_ns, found.st_ino):
            running: dict[str, Any] = json.loads(self._state.read_text())["running"]
            self._pids = {unit: int(each["pid"]) for unit, each in running.items() if each["pid"]}
            self._read_at = found.st_mtime_ns, found.st_ino

    def _is_unit(self, pid: int, unit: str) -> bool:
        """Whether the process is the unit, and not another that has its id by now."""
        with suppress(OSError):
            return f"\0LAB_UNIT={self._lab}:{unit}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def _kill(self, unit: str, pid: int, size: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # a unit leads a session
        pause_s = min(2.0 ** self._killed.get(unit, 0) - 1, _MOST_PAUSE_S)
        self._killed[unit] = self._killed.get(unit, 0) + 1
        self._due[unit] = time.monotonic() + pause_s
        line = (
            f"{time.strftime('%Y-%m-%d %H:%M:%S')} killed at {size / _MB:.0f} MB, "
            f"over its memory ceiling of {self._ceiling / _MB:.0f} MB"
        )
        for name in ("log", EVENTS):
            with suppress(OSError), (self._lab / "units" / unit / name).open("a") as file:  # the disk may be full
                file.write(f"{line}\n")

    def _start_those_due(self) -> None:
        self._restarts = [each for each in self._restarts if each.poll() is None]
        for unit in [each for each, due in self._due.items() if time.monotonic() >= due]:
            del self._due[unit]
            self._restarts.append(subprocess.Popen([sys.executable, "-m", "lab.ops.restart", str(self._lab), unit]))


def resident(pid: int) -> int:
    """Resident memory of a process and those that it has started, bytes; 0 if it has ended."""
    with suppress(OSError, IndexError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE + sum(resident(int(child)) for child in children)
    return 0


if __name__ == "__main__":
    Watcher(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) * _MB).run()
