"""The compose runtime: each unit a container, all of them one Docker Compose project.

Here belongs everything that knows Docker; ``lab.roles`` decides which units there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lab.runtime._runtime import Runtime, RuntimeKind

if TYPE_CHECKING:
    from lab.runtime.doctor_finding import Finding

COMPOSE_FILE = "compose.yaml"
"""In the folder of a lab of containers: the file that Docker Compose carries out."""


def _obstacle() -> str:
    from lab.runtime.compose.engine import obstacle  # noqa: PLC0415 (Docker's library, for those who have Docker)

    return obstacle()


def _make(folder: Path, security: str) -> Runtime:
    from lab.runtime.compose.runtime import ComposeRuntime  # noqa: PLC0415 (see above)

    return ComposeRuntime(folder, security)


def _checks() -> Iterable[Finding]:
    from lab.runtime.compose.checks import findings  # noqa: PLC0415 (see above)

    return findings()


RUNTIME = RuntimeKind(
    name="compose",
    title="units are containers",
    reason="a Docker engine answers",
    priority=10,
    obstacle=_obstacle,
    make=_make,
    left_in=lambda folder: (folder / COMPOSE_FILE).exists(),
    checks=_checks,
)
