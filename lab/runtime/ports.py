"""Ports for local processes, reserved so that labs that start at the same time do not take each other's.

Ports come from below the range out of which the kernel takes those of outgoing connections: there, a unit that is
restarted could find its port in use by somebody's connection.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from lab.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOST = "127.0.0.1"
FIRST, LAST = 20_000, 32_000


def reserve(names: Iterable[str], owner: Path) -> dict[str, int]:
    """Finds a free port for each name; ports that are taken, or that another lab has reserved, are passed over.

    Args:
        names: what the ports are for.
        owner: the folder of the lab; its reservation ends with :func:`release`, or with the folder.

    Raises:
        UnitError: no port is free.
    """
    names = list(names)
    with _book() as book:
        taken = {port for ports in book.values() for port in ports}
        candidates = (port for port in _from(owner) if port not in taken and _is_free(port))
        ports = dict(zip(names, candidates, strict=False))
        if len(ports) < len(names):
            raise UnitError(f"no free port between {FIRST} and {LAST}: stop other labs, see `lab down --help`")
        book.setdefault(str(owner), []).extend(ports.values())
    return ports


def release(owner: Path) -> None:
    """Gives the ports of a lab back."""
    with _book() as book:
        book.pop(str(owner), None)


def _from(owner: Path) -> Iterator[int]:
    """All ports, from one that depends on the lab: it gets the same ports again as long as they are free."""
    span = LAST - FIRST
    start = crc32(str(owner).encode()) % (span // 100) * 100
    return (FIRST + (start + step) % span for step in range(span))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection that has ended and lingers does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


@contextmanager
def _book() -> Iterator[dict[str, list[int]]]:
    """The reservations of this user's labs, locked while they are looked at and changed."""
    path = Path(tempfile.gettempdir()) / f"lab-ports-{os.getuid()}.json"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        try:
            book = json.loads(file.read() or "{}")
        except ValueError:
            book = {}
        book = {owner: ports for owner, ports in book.items() if Path(owner).is_dir()}
        yield book
        file.seek(0)
        file.truncate()
        json.dump(book, file)
