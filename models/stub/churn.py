"""Connections that are closed under their clients again and again."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from models.stub.behaviour import Dials

_DESCRIPTORS = "/dev/fd"
_TCP_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Churn:
    """Closes the connections of a port as the dials say.

    Args:
        dials: how often.
        port: whose.

    Attributes:
        closed: how many so far.
    """

    def __init__(self, dials: Dials, port: int) -> None:
        self.closed = 0
        self._dials = dials
        self._port = port
        self._turned = asyncio.Event()

    def turned(self) -> None:
        """Somebody has turned a dial."""
        self._turned.set()

    async def run(self) -> NoReturn:
        """For ever."""
        while True:
            self._turned.clear()
            every_ms = self._dials.behaviour.churn_ms
            try:
                async with asyncio.timeout(every_ms / 1_000 if every_ms else None):
                    await self._turned.wait()
            except TimeoutError:
                self.closed += close_connections(self._port)


def close_connections(port: int) -> int:
    """Closes every TCP connection of this process that came in at that port, and returns how many there were.

    gRPC does not give its connections away, so they are found among the process's descriptors. They are shut down and
    not closed: gRPC finds them at their end, as if the network had cut them.
    """
    return sum(_close(int(descriptor), port) for descriptor in os.listdir(_DESCRIPTORS))  # noqa: PTH208 (numbers)


def _close(descriptor: int, port: int) -> bool:
    try:
        copy = os.dup(descriptor)
    except OSError:  # the listing's own
        return False
    try:
        connection = socket.socket(fileno=copy)
    except OSError:  # no socket
        os.close(copy)
        return False
    with connection:
        if connection.family not in _TCP_FAMILIES:
            return False
        with suppress(OSError):  # one that listens has no peer
            if connection.getsockname()[1] == port and connection.getpeername():
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False
