"""Caller ⇄ resolver beside it, caller → one central Envoy → model: central, but the payload is never read."""

from __future__ import annotations

from lab.client.mesh import MeshClient
from lab.client.wire import Wire
from lab.errors import SpecError


class GatewayHeaderClient(MeshClient):
    """A mesh client whose Envoy does not stand beside it: all callers share one."""

    topology = "gateway-header"

    def _open_wire(self) -> Wire:
        if self._endpoints.central_envoy is None:
            raise SpecError(f"topology {self.topology}: no address of a central Envoy is given")
        return Wire((self._endpoints.central_envoy,), self._security, peer="central-envoy")
