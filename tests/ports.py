"""Ports for servers whose address must be known before they listen."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below the ports of labs, whose units may just restart, and those that Linux gives to connections.
_ROWS = range(10_000, 20_000)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listened a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_row(length: int = 16) -> int:
    """First of some adjacent ports of 127.0.0.1 on which nothing listened a moment ago."""
    while True:
        first = random.choice(_ROWS)  # noqa: S311 (spreads workers, keeps no secret)
        with ExitStack() as probes:
            try:
                for port in range(first, first + length):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
