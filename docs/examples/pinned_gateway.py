"""A topology of one's own: each caller keeps to one gateway replica, chosen by the caller's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zlib import crc32

from lab.client import Endpoints
from lab.client.gateway import GatewayClient
from lab.topologies import gateway


class PinnedGatewayClient(GatewayClient):
    """As ``gateway``, but all of a caller's requests meet the same replica."""

    topology = "gateway-pinned"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        gateways = endpoints.addresses_of("gateway")
        chosen = gateways[crc32(caller.encode()) % len(gateways)]
        super().__init__(caller, Endpoints({"gateway": (chosen,)}), **options)


TOPOLOGY = replace(
    gateway.TOPOLOGY,
    name="gateway-pinned",
    reason="each caller's requests meet the same replica",
    client=PinnedGatewayClient,
    colour="#8c564b",
    in_default_lab=False,
)
