"""Caller → gateway, which reads the request and decides → model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.strategies import Gateway
from lab.topologies._topology import YES, Capabilities, Topology, yes

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Gateway:
    """Sends to the gateway replicas in turn."""
    del caller
    return Gateway(endpoints.addresses_of("gateway"), security)


CAPABILITIES = Capabilities(
    reads_payload=YES,
    shadow=YES,
    shadow_by="gateway",
    tenant_rates=YES,
    tenant_concurrency=YES,
    retries=YES,
    retry_budget=YES,
    per_try_timeout=YES,
    attempts_reported=YES,
    hedging=YES,
    hedge_budget=YES,
    outlier_ejection=YES,
    ejection_in_a_row=YES,
    circuit_breaker=yes("`requests` only: one connection per replica, and no queue"),
    health_checks=YES,
    failover=YES,
    draining=YES,
    slow_start=yes("from 10 % on"),
)

TOPOLOGY = Topology(
    name="gateway",
    reason="an operator: every payload passes through it",
    route="caller → gateway (resolves, parses, re-serialises) → model",
    path=("caller", "gateway", "model"),
    strategy=strategy,
    capabilities=CAPABILITIES,
    colour="#d55e00",
    compared_as="central",
)
