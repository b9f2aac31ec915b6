"""Caller ⇄ resolver beside it, with leases; caller → one central Envoy, which routes on the header → model."""

from __future__ import annotations

from dataclasses import replace

from lab.client.gateway_header import GatewayHeaderClient
from lab.topologies import mesh
from lab.topologies._topology import Topology, no, yes

TOPOLOGY = Topology(
    name="gateway-header",
    reason="central, but never reads the payload: limits tenants' rates by a header, and counts no requests in flight",
    route="caller ⇄ resolver beside it (lease); caller → one central Envoy, which routes on the header → model",
    path=("caller", "central-envoy", "model"),
    asks=("resolver",),
    decided_by="resolver",
    client=GatewayHeaderClient,
    capabilities=replace(
        mesh.CAPABILITIES,
        shadow_by="central-envoy",
        tenant_rates=yes("by a header"),
        tenant_concurrency=no("Envoy's local rate limit counts arrivals, not requests in flight"),
    ),
    colour="#cc79a7",
    long_scenarios_on=("compose",),
)
