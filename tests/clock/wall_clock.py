"""A wall clock that a test sets, of all programs that it starts, Envoys included; needs gcc."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("realtime.c")
_AHEAD = "CLOCK_OFFSET"


def wall_clock(folder: Path) -> dict[str, str]:
    """Returns the environment of programs that read a wall clock which is right until it is set.

    Args:
        folder: gets the library that they load, and the file that says how far the clock is ahead.
    """
    shim, ahead = folder / "realtime.so", folder / "ahead"
    subprocess.run(("gcc", "-O2", "-shared", "-fPIC", "-o", shim, _SOURCE), check=True)
    ahead.write_bytes(struct.pack("l", 0))
    return {"LD_PRELOAD": str(shim), _AHEAD: str(ahead)}


def set_wall_clock(environment: Mapping[str, str], ahead_s: int) -> None:
    """Sets the wall clock of programs with that environment so far ahead of the machine's, seconds."""
    with Path(environment[_AHEAD]).open("r+b") as file:  # in place, as they have it mapped
        file.write(struct.pack("l", ahead_s))
