"""What a check of this machine finds, for ``lab doctor``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "hint", "lacks"]
"""``ok``; ``hint``: the runtime works, but not as well as it could; ``lacks``: the runtime does not work."""

_COMMAND_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of the thing checked.
        state: see :data:`State`.
        found: measured value.
        remedy: what to do about it; empty if it is ``ok``.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def finding(name: str, found: str, *, lacks: bool = False, hint: bool = False, remedy: str) -> Finding:
    """The finding of a check; its remedy is left out if it is ``ok``."""
    state: State = "lacks" if lacks else "hint" if hint else "ok"
    return Finding(name=name, state=state, found=found, remedy="" if state == "ok" else remedy)


def first_line(command: Sequence[str]) -> str | None:
    """The first line of a command's output; None if it is missing or fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
