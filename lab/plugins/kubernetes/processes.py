"""Signals for a unit's processes, sent from within its container.

A killed unit stays down until somebody starts it, as the container's first process starts it only while a file is not
there; the file outlives the container, not its pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.kubernetes.pods import HELD, STARTED_VARIABLE

if TYPE_CHECKING:
    from lab.plugins.kubernetes.api import Api

_SIGNAL = f"""
import os, pathlib, sys
found, number, mark = 0, int(sys.argv[2]), b"\\0{STARTED_VARIABLE}=" + sys.argv[1].encode() + b"\\0"
for process in pathlib.Path("/proc").iterdir():
    try:
        if process.name.isdigit() and mark in b"\\0" + (process / "environ").read_bytes():
            os.kill(int(process.name), number)
            found += 1
    except OSError:
        pass
print(found)
"""


def send_signal(api: Api, pod: str, unit: str, number: int) -> int:
    """Sends a signal, or 0 for none, to all processes of a unit, in its pod of that name; returns how many."""
    status, said = api.execute(pod, unit, ["python", "-IS", "-c", _SIGNAL, unit, str(number)])
    return int(said) if status == 0 else 0


def hold(api: Api, pod: str, unit: str) -> None:
    """Keeps the unit from starting again once it has ended."""
    api.execute(pod, unit, ["touch", HELD])


def let_go(api: Api, pod: str, unit: str) -> bool:
    """Lets the unit start; returns whether its container runs, which it must for that."""
    status, _ = api.execute(pod, unit, ["rm", "-f", HELD])
    return status == 0
