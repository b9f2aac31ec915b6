"""A custom topology: each caller keeps to one gateway replica, chosen by the caller's name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from lab.client.strategies import Gateway
from lab.topologies import gateway

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.transport import Security


def pinned(caller: str, endpoints: Endpoints, security: Security | None) -> Gateway:
    """As ``gateway``, but all of a caller's requests go to the same replica."""
    replicas = endpoints.addresses_of("gateway")
    return Gateway((replicas[crc32(caller.encode()) % len(replicas)],), security)


TOPOLOGY = replace(
    gateway.TOPOLOGY,
    name="gateway-pinned",
    reason="each caller's requests meet the same replica",
    strategy=pinned,
    takes_turns=False,
    colour="#8c564b",
    in_default_lab=False,
)
