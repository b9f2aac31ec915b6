"""Caller ⇄ resolver beside it, caller's own gRPC library → model: the limit of a thin path.

The library asks the control plane where each routing key is, and routes by itself; no Envoy is on the way. It cannot
mirror, so the client sends a shadow's copies itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.client.decisions import DecisionReader
from lab.client.mesh import MeshClient
from lab.client.rpc_channel import Wire
from lab.client.shadow_sender import Copies
from lab.transport import open_xds_channel

if TYPE_CHECKING:
    from lab.client.attempts import Passage
    from lab.client.endpoints import Endpoints
    from models.apis import Method


class ProxylessClient(MeshClient):
    """A mesh client whose gRPC library does what Envoy does elsewhere."""

    topology = "proxyless"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        super().__init__(caller, endpoints, **options)
        self._decisions = DecisionReader(through_envoy=False)
        self._copies = Copies()

    async def close(self) -> None:
        """Closes all connections; copies under way may still arrive."""
        await self._copies.settle()
        await super().close()

    def _open_wire(self) -> Wire:
        control_plane = ",".join(self._endpoints.addresses_of("control-plane"))
        channel = open_xds_channel(control_plane, self._caller, self._security)
        return Wire(("models, by routing key",), channel=channel)

    def _sent(self, passage: Passage, method: Method, payload: bytes) -> None:
        if passage.shadow and passage.attempts == 1:
            self._copies.send(passage.wire, method, payload, routing_key=passage.shadow, request_id=passage.request_id)
