"""A topology of one's own: each caller keeps to one gateway replica, chosen by the caller's name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from lab.client.gateway import GatewayClient
from lab.errors import SpecError
from lab.topologies import gateway

if TYPE_CHECKING:
    from lab.client import Endpoints


class PinnedGatewayClient(GatewayClient):
    """As ``gateway``, but all of a caller's requests meet the same replica."""

    topology = "gateway-pinned"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        if not endpoints.gateways:
            raise SpecError(f"topology {self.topology}: no address of a gateway is given")
        chosen = endpoints.gateways[crc32(caller.encode()) % len(endpoints.gateways)]
        super().__init__(caller, replace(endpoints, gateways=(chosen,)), **options)


TOPOLOGY = replace(
    gateway.TOPOLOGY,
    name="gateway-pinned",
    reason="each caller's requests meet the same replica",
    client=PinnedGatewayClient,
    colour="#8c564b",
    in_default_lab=False,
)
