"""``python watcher.py LAB STATE_FILE CEILING_MB [PROJECT]``: ends units over their memory ceiling, and restarts them.

It uses the standard library only and is run by its path, as it runs beside every lab: it takes 10 MB. Containers are
ended by the kernel; their Compose project says which. A unit is started again by ``lab.ops.restart``. The watch ends
when the lab's state file is gone.
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
# Short: a client that makes a unit exceed its ceiling again and again must not keep it down.
_MOST_PAUSE_S, _FORGIVEN_AFTER_S, _MOST_COUNTED = 4.0, 60.0, 10
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 2**20


class Watcher:
    """The memory watch of one lab.

    Args:
        lab: the lab's folder.
        state: name of the state file in it.
    """

    def __init__(self, lab: Path, state: str) -> None:
        self._lab, self._state = lab, lab / state
        self._read_at: tuple[int, int] | None = None
        self._running: dict[str, dict[str, Any]] = {}
        self._killed: dict[str, tuple[int, float]] = {}
        self._due: dict[str, float] = {}
        self._restarts: list[subprocess.Popen[bytes]] = []

    def run(self) -> None:
        """Watches until the state file has been gone for 5 s, which it also is before the first unit starts."""
        seen = time.monotonic()
        while time.monotonic() - seen < _PATIENCE_S:
            with suppress(OSError, ValueError, KeyError):
                self._read()
                seen = time.monotonic()
            self._look()
            self._start_those_due()
            time.sleep(_INTERVAL_S)

    def _look(self) -> None:
        """Finds units that are over their ceiling, or were ended for it."""
        raise NotImplementedError

    def _read(self) -> None:
        found = self._state.stat()
        if self._read_at != (found.st_mtime_ns, found.st_ino):
            self._running = json.loads(self._state.read_text())["running"]
            self._read_at = found.st_mtime_ns, found.st_ino

    def _ended(self, unit: str, line: str, *files: str) -> None:
        """Writes the line to these files and :data:`EVENTS`, and starts the unit again after a pause that grows."""
        now = time.monotonic()
        times, last = self._killed.get(unit, (0, now))
        if now - last > _FORGIVEN_AFTER_S:
            times = 0
        pause_s = min(2.0**times - 1, _MOST_PAUSE_S)
        self._killed[unit] = min(times + 1, _MOST_COUNTED), now
        self._due[unit] = now + pause_s
        home = self._lab / "units" / unit
        for name in (*files, EVENTS):
            with suppress(OSError):  # the disk may be full
                home.mkdir(parents=True, exist_ok=True)
                with (home / name).open("a") as file:
                    file.write(f"{line}\n")

    def _start_those_due(self) -> None:
        self._restarts = [each for each in self._restarts if each.poll() is None]
        for unit in [each for each, due in self._due.items() if time.monotonic() >= due]:
            del self._due[unit]
            restart = [sys.executable, "-P", "-m", "lab.ops.restart", str(self._lab), unit]
            self._restarts.append(subprocess.Popen(restart))


class OfProcesses(Watcher):
    """Measures units that are processes, and kills them.

    Args:
        lab: the lab's folder.
        state: name of the state file in it.
        ceiling: of each unit, bytes.
    """

    def __init__(self, lab: Path, state: str, ceiling: int) -> None:
        super().__init__(lab, state)
        self._ceiling = ceiling

    def _look(self) -> None:
        for unit, its in self._running.items():
            pid = int(its.get("pid", 0))
            size = resident(pid) if pid else 0
            if size > self._ceiling and self._is_unit(pid, unit):
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # a unit leads a session
                its["pid"] = 0
                taken, most = f"{size / _MB:.0f}", f"{self._ceiling / _MB:.0f}"
                self._ended(unit, f"{_now()} killed at {taken} MB, over its memory ceiling of {most} MB", "log")

    def _is_unit(self, pid: int, unit: str) -> bool:
        """Whether the process is the unit, and not another that has its id by now."""
        with suppress(OSError):
            return f"\0LAB_UNIT={self._lab}:{unit}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        return False


class OfContainers(Watcher):
    """Reads from the engine which containers the kernel has ended for want of memory.

    Args:
        lab: the lab's folder.
        state: name of the state file in it.
        project: the lab's Compose project.
    """

    def __init__(self, lab: Path, state: str, project: str) -> None:
        super().__init__(lab, state)
        self._project = project
        self._since_ns = time.time_ns()  # noqa: TID251 (the engine's clock)
        self._events = self._listen()
        self._unread = b""
        self._short: set[str] = set()  # containers that have been short of memory since they started

    def run(self) -> None:
        """Watches, and stops listening to the engine in the end."""
        try:
            super().run()
        finally:
            self._events.kill()

    def _look(self) -> None:
        if self._events.poll() is not None:  # the engine was restarted
            self._events = self._listen()
        if self._events.stdout:
            with suppress(BlockingIOError):
                self._unread += os.read(self._events.stdout.fileno(), 2**16)
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            action, container, at_ns = line.decode().split()
            self._since_ns = int(at_ns) + 1
            if action == "oom":
                self._short.add(container)
            elif container in self._short:
                self._short.discard(container)
                for unit in [each for each, its in self._running.items() if its.get("container") == container]:
                    limit = _limit_of(container)
                    self._ended(unit, f"{_now()} killed by the kernel, over its memory ceiling of {limit}")

    def _listen(self) -> subprocess.Popen[bytes]:
        filters = ("type=container", "event=oom", "event=die", f"label=com.docker.compose.project={self._project}")
        since = f"{self._since_ns // 10**9}.{self._since_ns % 10**9:09d}"
        command = ["docker", "events", "--since", since, "--format", "{{.Action}} {{.ID}} {{.TimeNano}}"]
        for each in filters:
            command += ["--filter", each]
        events = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if events.stdout:
            os.set_blocking(events.stdout.fileno(), False)
        return events


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _limit_of(container: str) -> str:
    """``256 MB``, as the engine says."""
    command = ["docker", "inspect", "--format", "{{.HostConfig.Memory}}", container]
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S).stdout
        return f"{int(said) / _MB:.0f} MB"
    return "unknown size"


def resident(pid: int) -> int:
    """Resident memory of a process and those that it has started, bytes; 0 if it has ended."""
    with suppress(OSError, IndexError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE + sum(resident(int(child)) for child in children)
    return 0


if __name__ == "__main__":
    folder, file, ceiling_mb, *its_project = sys.argv[1:]
    if its_project:
        OfContainers(Path(folder), file, *its_project).run()
    else:
        OfProcesses(Path(folder), file, int(ceiling_mb) * _MB).run()
