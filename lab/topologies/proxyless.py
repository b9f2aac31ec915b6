"""Caller ⇄ resolver beside it, with leases; the caller's gRPC library speaks xDS and routes itself → model."""

from __future__ import annotations

from lab.client.proxyless import ProxylessClient
from lab.topologies._topology import YES, Capabilities, Topology, no, yes

TOPOLOGY = Topology(
    name="proxyless",
    reason="the limit of a thin path. The library cannot mirror: the client sends a shadow's copies itself",
    route=(
        "caller ⇄ resolver beside it (lease); caller's gRPC library speaks xDS to the control plane and routes itself "
        "→ model"
    ),
    path=("caller", "model"),
    asks=("resolver",),
    decided_by="resolver",
    client=ProxylessClient,
    capabilities=Capabilities(
        shadow=yes("the client sends the copies"),
        shadow_by="caller",
        retries=yes("pauses of 10 ms at least"),
        retry_budget=no("with every replica failing, models get `attempts` times the requests"),
        attempts_reported=no("always 1"),
        outlier_ejection=yes(
            "by share, not in a row: a replica that fails 85 % of at least `errors` requests within a second, whatever "
            "the status"
        ),
        circuit_breaker=yes("`requests` only"),
        failover=YES,
        draining=YES,
    ),
    colour="#009e73",
)
