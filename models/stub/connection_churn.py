"""Connection churn: closes a replica's connections under their clients at intervals."""

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
    """Closes all connections to a port at the interval of the behaviour.

    Attributes:
        closed: number of connections closed so far.
    """

    def __init__(self, live: LiveBehaviour, port: int) -> None:
        self.closed = 0
        self._live = live
        self._port = port
        self._changed = asyncio.Event()

    def behaviour_changed(self) -> None:
        """Reads the interval again."""
        self._changed.set()

    async def run(self) -> NoReturn:
        """Runs until cancelled."""
        while True:
            self._changed.clear()
            every_ms = self._live.behaviour.churn_ms
            try:
                async with asyncio.timeout(every_ms / 1_000 if every_ms else None):
                    await self._changed.wait()
            except TimeoutError:
                self.closed += close_connections(self._port)


def close_connections(port: int) -> int:
    """Closes every TCP connection accepted on a port of this process, and returns their number.

    gRPC does not expose its connections, so they are found among the process's descriptors. They are shut down, not
    closed: gRPC sees their end, as if the network had cut them.
    """
    return sum(_close(int(descriptor), port) for descriptor in os.listdir(_DESCRIPTORS))  # noqa: PTH208 (numbers)


def _close(descriptor: int, port: int) -> bool:
    try:
        copy = os.dup(descriptor)
    except OSError:  # the descriptor of the listing itself
        return False
    try:
        connection = socket.socket(fileno=copy)
    except OSError:  # not a socket
        os.close(copy)
        return False
    with connection:
        if connection.family not in _TCP_FAMILIES:
            return False
        with suppress(OSError):  # a listening socket has no peer
            if connection.getsockname()[1] == port and connection.getpeername():
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False
