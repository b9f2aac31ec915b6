"""Ports of this machine, reserved so that labs that start at the same time do not take each other's.

All of them are below the kernel's range for outgoing connections. In that range, another connection could hold the
port of a unit while the unit restarts.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from zlib import crc32

from lab.errors import UnitError
from lab.roles import UNIX, Plan
from lab.runtime import reservations

HOST = "127.0.0.1"
FIRST, LAST = 20_000, 32_000

_KIND = "ports"


def reserve(names: Iterable[str], owner: Path) -> dict[str, int]:
    """Reserves a free port for each name; skips ports that are in use, or reserved by another lab.

    Args:
        names: what the ports are for.
        owner: the folder of the lab; its reservation ends with :func:`release`, or with the folder.

    Raises:
        UnitError: no port is free.
    """
    names = list(names)
    with reservations.locked(_KIND) as reserved:
        ports = dict(zip(names, _free(reserved, _from(owner)), strict=False))
        if len(ports) < len(names):
            raise UnitError(f"no free port between {FIRST} and {LAST}: stop other labs, see `lab down --help`")
        reserved.setdefault(str(owner), []).extend(ports.values())
    return ports


def count_free(at_most: int) -> int:
    """Number of free ports, or ``at_most`` if there are more."""
    with reservations.locked(_KIND) as reserved:
        return sum(1 for _ in islice(_free(reserved, range(FIRST, LAST)), at_most))


def release(owner: Path) -> None:
    """Frees the ports of a lab."""
    reservations.release(_KIND, owner)


def ports_of(plan: Plan | None) -> dict[str, int]:
    """The ports of this machine that a plan uses: ``unit/name`` → port."""
    found = {}
    for unit in plan.units if plan else ():
        for name, port in unit.ports.items():
            if not port.outside.startswith(UNIX):
                found[f"{unit.name}/{name}"] = int(port.outside.rsplit(":", 1)[1])
    return found


def _free(reserved: Mapping[str, list[int]], candidates: Iterable[int]) -> Iterator[int]:
    taken = {port for ports in reserved.values() for port in ports}
    return (port for port in candidates if port not in taken and _is_free(port))


def _from(owner: Path) -> Iterator[int]:
    """All ports, beginning with one that depends on the lab, so that the lab gets the same ports again if it can."""
    span = LAST - FIRST
    start = crc32(str(owner).encode()) % (span // 100) * 100
    return (FIRST + (start + step) % span for step in range(span))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
