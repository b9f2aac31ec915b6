"""Caller ⇄ resolver beside it, with leases; caller → Envoy beside it → model."""

from __future__ import annotations

from lab.client.mesh import MeshClient
from lab.topologies._topology import YES, Capabilities, Topology, yes

CAPABILITIES = Capabilities(
    shadow=YES,
    shadow_by="sidecar",
    retries=yes("requests over 1 MiB are sent once"),
    retry_budget=YES,
    per_try_timeout=yes("if the client sends `x-per-try-ms`"),
    attempts_reported=YES,
    hedging=yes("if the client sends `x-hedge-ms`; the budget forgets a second attempt that is late as well"),
    outlier_ejection=YES,
    circuit_breaker=YES,
    health_checks=YES,
    failover=YES,
    draining=YES,
    slow_start=yes("from 10 % on"),
)

TOPOLOGY = Topology(
    name="mesh",
    reason="directory assistance",
    route="caller ⇄ resolver beside it (lease); caller → Envoy beside it → model",
    path=("caller", "sidecar", "model"),
    asks=("resolver",),
    decided_by="resolver",
    client=MeshClient,
    capabilities=CAPABILITIES,
    colour="#0072b2",
)
