"""Checks what this machine has and lacks for each runtime; measures everything, changes nothing."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from lab import CHECKOUT
from lab.roles import ROLES
from lab.runtime import RUNTIMES
from lab.runtime.doctor_finding import Finding, finding, first_line

MACHINE, EXTRAS = "machine", "extras"

_MIN_PYTHON = (3, 11)
_GIB = 2**30
# The default lab takes about 1.2 GiB, see `lab status --memory`; the tests bring up two at a time.
_ENOUGH_GIB, _MIN_GIB = 3.0, 1.5
_DISK_GIB = 2.0
_OPEN_FILES = 1024
_SHOWN = 3
_ENOUGH_CORES = 2


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The results of all checks.

    Attributes:
        parts: :data:`MACHINE`, which every runtime needs; each runtime that has checks; :data:`EXTRAS`.
    """

    parts: Mapping[str, Sequence[Finding]]

    @property
    def findings(self) -> list[Finding]:
        """Those of all parts."""
        return [each for findings in self.parts.values() for each in findings]

    def lacks(self, runtime: str) -> list[str]:
        """Names of the checks that keep a runtime from working here."""
        return [each.name for part in (MACHINE, runtime) for each in self.parts[part] if each.state == "lacks"]

    @property
    def ready(self) -> dict[str, bool]:
        """Runtime → whether a lab can run on it here."""
        return {part: not self.lacks(part) for part in self.parts if part not in (MACHINE, EXTRAS)}


def examine(home: Path) -> Diagnosis:
    """Runs all checks; ``home`` is the folder in which labs keep their state and their runs."""
    runtimes = {name: tuple(kind.checks()) for name, kind in RUNTIMES.items()}
    of_runtimes = {name: findings for name, findings in runtimes.items() if findings}
    return Diagnosis({MACHINE: tuple(_machine(home)), **of_runtimes, EXTRAS: tuple(_extras())})


def _machine(home: Path) -> Iterator[Finding]:
    cores = len(psutil.Process().cpu_affinity() or [0])
    yield finding(
        "cores",
        f"{cores}",
        hint=cores < _ENOUGH_CORES,
        remedy="use two or more: the lab will be slow here, and bench results unknown",
    )
    free = psutil.virtual_memory().available / _GIB
    yield finding(
        "free memory",
        f"{free:.1f} GiB",
        lacks=free < _MIN_GIB,
        hint=free < _ENOUGH_GIB,
        remedy=f"free some: the default lab takes about 1.2 GiB, the tests {_ENOUGH_GIB:g}",
    )
    disk = shutil.disk_usage(home).free / _GIB
    yield finding(
        "free disk",
        f"{disk:.1f} GiB at {home}",
        hint=disk < _DISK_GIB,
        remedy="free some: runs record every request; LAB_HOME names another folder for them",
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield finding(
        "open files",
        f"{files}",
        hint=files < _OPEN_FILES,
        remedy=f"for high rates: ulimit -n {_OPEN_FILES}",
    )
    python = sys.version_info[:3]
    yield finding(
        "Python",
        ".".join(map(str, python)),
        lacks=python < _MIN_PYTHON,
        remedy="install Python 3.11 or newer, remove .venv, and run make again",
    )
    differing = list(_packages_off_lock(CHECKOUT / "requirements.lock"))
    yield finding(
        "packages",
        f"other versions than locked: {_some(differing)}" if differing else "as locked",
        hint=bool(differing),
        remedy="remove .venv, and run make again",
    )


def _extras() -> Iterator[Finding]:
    h2load = first_line(["h2load", "--version"])
    yield finding(
        "h2load",
        h2load or "is missing",
        hint=h2load is None,
        remedy="run `make h2load`; without it, benches lack an independent load generator",
    )
    programs = {role.program.name: role.program for role in ROLES.values() if role.program is not None}
    for name, program in programs.items():
        yield finding(
            name,
            "installed" if program.installed() else "is missing",
            hint=not program.installed(),
            remedy=f"{program.remedy}; without it, its topologies do not come up",
        )


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


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
