"""Caller ⇄ resolver beside it, with leases; caller → one central Envoy, which routes on the header → model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased, with_tenant_and_session
from lab.pickers import ENVOY
from lab.topologies import mesh
from lab.topologies._topology import Topology, no, yes

if TYPE_CHECKING:
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
    """Leases decisions, and sends to the Envoy that all callers share."""
    envoy, resolver = endpoints.address_of("central-envoy"), endpoints.address_of("resolver")
    return Leased(
        ResolverClient(caller, resolver, security),
        RpcChannel((envoy,), security, peer="central-envoy", watches_health=False),
        encode=with_tenant_and_session,
    )


TOPOLOGY = Topology(
    name="gateway-header",
    reason="central, but never reads the payload; limits tenants' rates by a header, but not their requests in flight",
    route="caller ⇄ resolver beside it (lease); caller → one central Envoy, which routes on the header → model",
    path=("caller", "central-envoy", "model"),
    asks=("resolver",),
    strategy=strategy,
    picks_at=ENVOY,
    capabilities=replace(
        mesh.CAPABILITIES,
        shadow_by="central-envoy",
        tenant_rates=yes("by a header"),
        tenant_concurrency=no("Envoy's local rate limit counts arrivals, not requests in flight"),
    ),
    colour="#cc79a7",
    long_scenarios_on=("compose",),
)
