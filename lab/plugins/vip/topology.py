"""Caller → the VIP of the model's cluster, at a hard-coded address → a replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client.strategies import Direct
from lab.pickers import GRPC
from lab.topologies import Topology
from lab.topologies.direct import TOPOLOGY as DIRECT

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.transport import Security

_ROLE = "vip"


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Direct:
    """Sends each use case to the VIP of its cluster. The certificate that it sees there is the model's."""
    del caller
    clusters = sorted({target.cluster for target in endpoints.direct.values()})
    vips = dict(zip(clusters, endpoints.addresses_of(_ROLE), strict=True))
    targets = {name: replace(each, addresses=(vips[each.cluster],)) for name, each in endpoints.direct.items()}
    return Direct(targets, security)


TOPOLOGY = Topology(
    name="direct-vip",
    reason="an L4 balancer before each cluster: it gives out connections, and gRPC sends all requests over one",
    route="caller → the cluster's VIP (L4), at a hard-coded address → model",
    path=("caller", _ROLE, "model"),
    strategy=strategy,
    takes_turns=False,
    picks_at=GRPC,
    capabilities=DIRECT.capabilities,
    colour="#b08968",
    in_default_lab=False,
    in_scenarios=False,
)
