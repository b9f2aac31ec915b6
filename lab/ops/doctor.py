"""Checks what this machine has and lacks for each runtime; measures everything, changes nothing."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
from docker.errors import DockerException
from packaging.requirements import Requirement

from lab import CHECKOUT
from lab.errors import LabError
from lab.runtime import ports
from lab.runtime.compose import engine, image, subnets

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "hint", "lacks"]
"""``ok``; ``hint``: the runtime works, but not as well as it could; ``lacks``: the runtime does not work."""

MACHINE, PROCESS, COMPOSE, EXTRAS = "machine", "process", "compose", "extras"
RUNTIMES = (PROCESS, COMPOSE)

_MIN_PYTHON = (3, 11)
_GIB = 2**30
# The default lab takes about 1.2 GiB, see `lab status --memory`; the tests bring up two at a time.
_ENOUGH_GIB, _MIN_GIB = 3.0, 1.5
_DISK_GIB = 2.0
_OPEN_FILES = 1024
_ENOUGH_CORES = 2
# The default lab takes about 60.
_PORTS_OF_A_LAB = 100
# Each Envoy takes four; an Envoy that gets none aborts while it starts.
_WATCHES_OF_A_LAB = 32
_MAX_WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")
_COMMAND_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        part: ``machine``, which every runtime needs, a runtime's name, or ``extras``.
        name: of the thing checked.
        state: see :data:`State`.
        found: measured value.
        remedy: what to do about it; empty if it is ``ok``.
    """

    part: str
    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The results of all checks."""

    findings: tuple[Finding, ...]

    def lacks(self, runtime: str) -> list[str]:
        """Names of the checks that keep a runtime from working here."""
        needed = (MACHINE, runtime)
        return [each.name for each in self.findings if each.part in needed and each.state == "lacks"]

    @property
    def ready(self) -> dict[str, bool]:
        """Runtime → whether a lab can run on it here."""
        return {runtime: not self.lacks(runtime) for runtime in RUNTIMES}


def examine(home: Path) -> Diagnosis:
    """Runs all checks; ``home`` is the folder in which labs keep their state and their runs."""
    return Diagnosis((*_machine(home), *_process(), *_compose(), *_extras()))


def _machine(home: Path) -> Iterator[Finding]:
    cores = len(psutil.Process().cpu_affinity() or [0])
    yield _finding(
        MACHINE,
        "cores",
        f"{cores}",
        hint=cores < _ENOUGH_CORES,
        remedy="use two or more: the lab will be slow here, and bench results unknown",
    )
    free = psutil.virtual_memory().available / _GIB
    yield _finding(
        MACHINE,
        "free memory",
        f"{free:.1f} GiB",
        lacks=free < _MIN_GIB,
        hint=free < _ENOUGH_GIB,
        remedy=f"free some: the default lab takes about 1.2 GiB, the tests {_ENOUGH_GIB:g}",
    )
    disk = shutil.disk_usage(home).free / _GIB
    yield _finding(
        MACHINE,
        "free disk",
        f"{disk:.1f} GiB at {home}",
        hint=disk < _DISK_GIB,
        remedy="free some: runs record every request; LAB_HOME names another folder for them",
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield _finding(
        MACHINE,
        "open files",
        f"{files}",
        hint=files < _OPEN_FILES,
        remedy=f"for high rates: ulimit -n {_OPEN_FILES}",
    )
    python = sys.version_info[:3]
    yield _finding(
        MACHINE,
        "Python",
        ".".join(map(str, python)),
        lacks=python < _MIN_PYTHON,
        remedy="install Python 3.11 or newer, remove .venv, and run make again",
    )
    differing = list(_packages_off_lock(CHECKOUT / "requirements.lock"))
    yield _finding(
        MACHINE,
        "packages",
        f"other versions than locked: {_some(differing)}" if differing else "as locked",
        hint=bool(differing),
        remedy="remove .venv, and run make again",
    )


def _process() -> Iterator[Finding]:
    version = _first_line([str(Path(sys.executable).parent / "envoy"), "--version"])
    found = re.search(r"/(\d+\.\d+\.\d+)/", version or "")
    yield _finding(
        PROCESS,
        "Envoy",
        found[1] if found else version or "does not run",
        lacks=found is None,
        remedy="remove .venv, and run make again; Envoy needs Linux on x86-64 or ARM64 with glibc 2.30 or newer",
    )
    free = ports.count_free(at_most=_PORTS_OF_A_LAB)
    yield _finding(
        PROCESS,
        "free ports",
        f"{_PORTS_OF_A_LAB} or more" if free >= _PORTS_OF_A_LAB else f"{free}",
        lacks=free < _PORTS_OF_A_LAB,
        remedy=f"take other labs down: units listen on 127.0.0.1, ports {ports.FIRST} to {ports.LAST}",
    )
    if _MAX_WATCHES.exists():
        most, taken = int(_MAX_WATCHES.read_text()), _file_watches()
        yield _finding(
            PROCESS,
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
        return os.readlink(link)  # noqa: PTH115 (it is no path)
    return ""


def _compose() -> Iterator[Finding]:
    try:
        client = engine.connect()
    except LabError as error:
        reason, _, remedy = str(error).partition(": ")
        yield Finding(part=COMPOSE, name="Docker engine", state="lacks", found=reason, remedy=remedy)
        return
    try:
        yield Finding(part=COMPOSE, name="Docker engine", state="ok", found=str(client.version()["Version"]))
        plugin = _first_line(["docker", "compose", "version", "--short"])
        yield _finding(
            COMPOSE,
            "compose plugin",
            plugin or "is missing",
            lacks=plugin is None,
            remedy="install Docker's compose plugin, or run `make engine`",
        )
        name, base = image.wanted(client)
        if image.is_here(client, name):
            yield Finding(part=COMPOSE, name="image", state="ok", found=f"{name}, built")
        else:
            here = image.is_here(client, base)
            yield _finding(
                COMPOSE,
                "image",
                f"not built yet; its base {base} is {'here' if here else 'not here'}",
                hint=not here,
                remedy="`lab up` pulls it; if no registry can be reached, `make engine` builds one",
            )
        free = subnets.count_free(engine.networks(client))
        yield _finding(
            COMPOSE,
            "free networks",
            f"{free} of {len(subnets.SUBNETS)} in {subnets.RANGE}",
            lacks=not free,
            remedy="take other labs down; `docker network ls` lists them",
        )
    except (DockerException, OSError) as error:
        yield Finding(part=COMPOSE, name="Docker engine", state="lacks", found=str(error), remedy=engine.REMEDY)


def _extras() -> Iterator[Finding]:
    h2load = _first_line(["h2load", "--version"])
    yield _finding(
        EXTRAS,
        "h2load",
        h2load or "is missing",
        hint=h2load is None,
        remedy="run `make h2load`; without it, benches lack an independent load generator",
    )


def _finding(part: str, name: str, found: str, *, lacks: bool = False, hint: bool = False, remedy: str) -> Finding:
    state: State = "lacks" if lacks else "hint" if hint else "ok"
    return Finding(part=part, name=name, state=state, found=found, remedy="" if state == "ok" else remedy)


def _packages_off_lock(lock: Path) -> Iterator[str]:
    """Names of packages whose version differs from the lock; ignores missing ones, which may be optional."""
    for line in lock.read_text().splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        wanted = Requirement(line.removesuffix("\\"))
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        with suppress(metadata.PackageNotFoundError):
            if metadata.version(wanted.name) not in wanted.specifier:
                yield wanted.name


def _some(names: list[str], show: int = 3) -> str:
    more = len(names) - show
    return ", ".join(names[:show]) + (f" and {more} more" if more > 0 else "")


def _first_line(command: list[str]) -> str | None:
    """The first line of a command's output; None if it is missing or fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
