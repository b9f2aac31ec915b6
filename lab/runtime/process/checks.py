"""What this machine has and lacks for labs of local processes; measures everything, changes nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from lab.runtime import ports
from lab.runtime.doctor_finding import Finding, finding, first_line

# The default lab takes about 60.
_PORTS_OF_A_LAB = 100
# Each Envoy takes four; an Envoy that gets none aborts while it starts.
_WATCHES_OF_A_LAB = 32
_MAX_WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")


def findings() -> Iterator[Finding]:
    """Whether Envoy runs here, and the ports and file watches that a lab takes are free."""
    version = first_line([str(Path(sys.executable).parent / "envoy"), "--version"])
    found = re.search(r"/(\d+\.\d+\.\d+)/", version or "")
    yield finding(
        "Envoy",
        found[1] if found else version or "does not run",
        lacks=found is None,
        remedy="remove .venv, and run make again; Envoy needs Linux on x86-64 or ARM64 with glibc 2.30 or newer",
    )
    free = ports.count_free(at_most=_PORTS_OF_A_LAB)
    yield finding(
        "free ports",
        f"{_PORTS_OF_A_LAB} or more" if free >= _PORTS_OF_A_LAB else f"{free}",
        lacks=free < _PORTS_OF_A_LAB,
        remedy=f"take other labs down: units listen on 127.0.0.1, ports {ports.FIRST} to {ports.LAST}",
    )
    if _MAX_WATCHES.exists():
        most, taken = int(_MAX_WATCHES.read_text()), _file_watches()
        yield finding(
            "file watches",
            f"{taken} of {most} taken",
            hint=most - taken < _WATCHES_OF_A_LAB,
            remedy="take other labs down, or as root: sysctl fs.inotify.max_user_instances=1024; Envoys abort without",
        )


def _file_watches() -> int:
    """Inotify instances of this user."""
    taken = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid():
                links = Path(f"/proc/{process.pid}/fd").iterdir()
                taken += sum(_target(link) == "anon_inode:inotify" for link in links)
    return taken


def _target(link: Path) -> str:
    with suppress(OSError):  # closed meanwhile
        return os.readlink(link)  # noqa: PTH115 (it is not a path)
    return ""
