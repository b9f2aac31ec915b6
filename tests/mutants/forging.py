"""A plug-in: topologies whose clients forge every header of picks, for the drill ``forged``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lab.plugins.proxies.topologies import NGINX
from lab.routing.headers import FORGEABLE
from lab.topologies import TOPOLOGIES, Topology

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.client.rpc_channel import Metadata
    from lab.transport import Security
    from models.apis import InferenceRequest

_NOWHERE = "127.0.0.1:9"


def _forging(topology: Topology) -> Topology:
    def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Any:
        made: Any = topology.strategy(caller, endpoints, security)
        honest = made.encode

        def encode(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
            payload, metadata = honest(request, context)
            return payload, (*metadata, *dict.fromkeys(FORGEABLE, _NOWHERE).items())

        made.encode = encode
        return made

    return replace(topology, name=f"{topology.name}-forged", strategy=strategy, in_default_lab=False, compared_as="")


FORGED_MESH, FORGED_NGINX = _forging(TOPOLOGIES["mesh"]), _forging(NGINX)
