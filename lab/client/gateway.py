"""Caller → gateway → model: the gateway decides, and tells the decision beside the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.client.base import Client
from lab.client.decisions import Decision
from lab.client.rpc_channel import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.attempts import Passage
    from lab.client.endpoints import Endpoints

# The gateway applies the use case's own timeout; this one only bounds a gateway that says nothing at all.
_TIMEOUT_S = 15.0


class GatewayClient(Client):
    """Sends everything to the gateway replicas in turn."""

    topology = "gateway"
    decides = False

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        super().__init__(caller, endpoints, **options)
        gateways = endpoints.addresses_of("gateway")
        self._route = Wire(gateways, self._security, peer="gateway"), Decision(timeout_s=_TIMEOUT_S)

    async def _choose(self, passage: Passage, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        del passage, context
        return self._route

    async def ready(self, timeout_s: float = 10.0) -> None:
        """Returns once a gateway is connected."""
        await self._route[0].ready(timeout_s)

    async def close(self) -> None:
        """Closes all connections."""
        await self._route[0].close()
