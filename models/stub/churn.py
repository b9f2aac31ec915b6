"""Connections that are closed under their clients again and again."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from models.stub.behaviour import LiveBehaviour

_DESCRIPTORS = "/dev/fd"
_TCP_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Churn:
    """Closes the connections of a port as the dials say.

    Args:
        live: how often.
        port: whose.

    Attributes:
        closed: how many so far.
    """

    def __init__(self, live: LiveBehaviour, port: int) -> None:
        self.closed = 0
        self._live = live
        self._port = port
        self._changed = asyncio.Event()

    def behaviour_changed(self) -> None:
        """Looks at the interval again."""
        self._changed.set()

    async def run(self) -> NoReturn:
        """For ever."""
        while True:
            self._changed.clear()
            every_ms = self._live.behaviour.churn_ms
            try:
                async with asyncio.timeout(every_ms / 1_000 if every_ms else None):
                    await self._changed.wait()
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
