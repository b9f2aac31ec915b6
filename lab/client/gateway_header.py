"""Caller ⇄ resolver beside it, caller → one central Envoy → model: central, but the payload is never read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.mesh import MeshClient
from lab.client.rpc_channel import Wire
from lab.routing.keys import TENANT_HEADER, tenant_in_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.attempts import Passage
    from lab.client.rpc_channel import Metadata
    from models.apis import InferenceRequest


class GatewayHeaderClient(MeshClient):
    """A mesh client whose Envoy does not stand beside it: all callers share one."""

    topology = "gateway-header"

    def _fill(self, request: InferenceRequest, context: Mapping[str, str], passage: Passage) -> tuple[bytes, Metadata]:
        payload, more = super()._fill(request, context, passage)
        return payload, (*more, (TENANT_HEADER, tenant_in_header(context.get("tenant", ""))))

    def _open_wire(self) -> Wire:
        return Wire((self._endpoints.address_of("central-envoy"),), self._security, peer="central-envoy")
