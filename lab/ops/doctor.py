"""What this machine has, and lacks, for each runtime: looked at, never guessed, and nothing is changed by looking."""

from __future__ import annotations

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

from lab.checkout import CHECKOUT
from lab.errors import LabError
from lab.runtime import ports
from lab.runtime.compose import engine, image, subnets

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "hint", "lacks"]
"""``ok``; ``hint``: it works, though not as well as it could; ``lacks``: without it, it does not."""

MACHINE, PROCESS, COMPOSE, EXTRAS = "machine", "process", "compose", "extras"
RUNTIMES = (PROCESS, COMPOSE)

_OLDEST_PYTHON = (3, 11)
_GIB = 2**30
# The default lab takes about 1.2 GiB, see `lab status --memory`; tests bring up two of them.
_ENOUGH_GIB, _LEAST_GIB = 3.0, 1.5
_DISK_GIB = 2.0
_OPEN_FILES = 1024
_TWO_CORES = 2
# The default lab takes about 60.
_PORTS_OF_A_LAB = 100
_PATIENCE_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: ``machine``, which every runtime needs, a runtime's name, or ``extras``.
        name: what was looked at.
        state: see :data:`State`.
        found: what was seen.
        remedy: what to do about it; empty if nothing is to be done.
    """

    part: str
    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    def lacks(self, runtime: str) -> list[str]:
        """Names of what a runtime cannot do without and does not have here."""
        needed = (MACHINE, runtime)
        return [each.name for each in self.findings if each.part in needed and each.state == "lacks"]

    @property
    def ready(self) -> dict[str, bool]:
        """Runtime → whether a lab can stand up on it here."""
        return {runtime: not self.lacks(runtime) for runtime in RUNTIMES}


def examine(home: Path) -> Diagnosis:
    """Looks at everything.

    Args:
        home: folder in which labs keep their state and their runs.
    """
    return Diagnosis((*_machine(home), *_process(), *_compose(), *_extras()))


def _machine(home: Path) -> Iterator[Finding]:
    cores = len(psutil.Process().cpu_affinity() or [0])
    yield _judged(
        MACHINE,
        "cores",
        f"{cores}",
        hint=cores < _TWO_CORES,
        remedy="it will be slow, and benches will be unknown: two or more are meant",
    )
    free = psutil.virtual_memory().available / _GIB
    yield _judged(
        MACHINE,
        "free memory",
        f"{free:.1f} GiB",
        lacks=free < _LEAST_GIB,
        hint=free < _ENOUGH_GIB,
        remedy=f"end something: the default lab takes about 1.2 GiB, and the tests' two {_ENOUGH_GIB:g}",
    )
    disk = shutil.disk_usage(home).free / _GIB
    yield _judged(
        MACHINE,
        "free disk",
        f"{disk:.1f} GiB at {home}",
        hint=disk < _DISK_GIB,
        remedy="make room: runs keep every request; LAB_HOME names another folder for them",
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield _judged(
        MACHINE, "open files", f"{files}", hint=files < _OPEN_FILES, remedy=f"ulimit -n {_OPEN_FILES}, for high rates"
    )
    python = sys.version_info[:3]
    yield _judged(
        MACHINE,
        "Python",
        ".".join(map(str, python)),
        lacks=python < _OLDEST_PYTHON,
        remedy="install Python 3.11 or newer, remove .venv, and run make again",
    )
    differing = list(_packages_unlike(CHECKOUT / "requirements.lock"))
    yield _judged(
        MACHINE,
        "packages",
        f"unlike the lock: {_some(differing)}" if differing else "as locked",
        hint=bool(differing),
        remedy="rm -r .venv, and run make again",
    )


def _process() -> Iterator[Finding]:
    version = _first_line([str(Path(sys.executable).parent / "envoy"), "--version"])
    found = re.search(r"/(\d+\.\d+\.\d+)/", version or "")
    yield _judged(
        PROCESS,
        "Envoy",
        found[1] if found else version or "does not run",
        lacks=found is None,
        remedy="rm -r .venv, and run make again; it needs Linux on x86-64 or ARM64 with glibc 2.30 or newer",
    )
    free = ports.count_free(at_most=_PORTS_OF_A_LAB)
    yield _judged(
        PROCESS,
        "free ports",
        f"{_PORTS_OF_A_LAB} or more" if free >= _PORTS_OF_A_LAB else f"{free}",
        lacks=free < _PORTS_OF_A_LAB,
        remedy=f"take other labs down: units listen on 127.0.0.1, ports {ports.FIRST} to {ports.LAST}",
    )


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
        yield _judged(
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
            yield _judged(
                COMPOSE,
                "image",
                f"not built yet; its base {base} is {'here' if here else 'not here'}",
                hint=not here,
                remedy="`lab up` pulls it; where no registry can be reached, `make engine` makes one",
            )
        free = subnets.count_free(engine.networks(client))
        yield _judged(
            COMPOSE,
            "free networks",
            f"{free} of {len(subnets.SUBNETS)} in {subnets.RANGE}",
            lacks=not free,
            remedy="take other labs down, see `docker network ls`",
        )
    except (DockerException, OSError) as error:
        yield Finding(part=COMPOSE, name="Docker engine", state="lacks", found=str(error), remedy=engine.REMEDY)


def _extras() -> Iterator[Finding]:
    h2load = _first_line(["h2load", "--version"])
    yield _judged(
        EXTRAS,
        "h2load",
        h2load or "is missing",
        hint=h2load is None,
        remedy="`make h2load`; without it, benches have no second opinion",
    )


def _judged(part: str, name: str, found: str, *, lacks: bool = False, hint: bool = False, remedy: str) -> Finding:
    state: State = "lacks" if lacks else "hint" if hint else "ok"
    return Finding(part=part, name=name, state=state, found=found, remedy="" if state == "ok" else remedy)


def _packages_unlike(lock: Path) -> Iterator[str]:
    """Names of packages in another version than the lock's; what is not here at all may not be meant to be."""
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
    """What a command says first; None if it is not here or fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
