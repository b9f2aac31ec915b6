"""Caller ⇄ resolver beside it, with leases; caller → Envoy beside it → model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased, with_session_header
from lab.pickers import ENVOY
from lab.topologies._topology import YES, Capabilities, Topology, no, yes
from lab.transport.channels import beside

if TYPE_CHECKING:
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
    """Leases decisions, and sends to the Envoy beside the caller."""
    sidecar, resolver = endpoints.address_of("sidecar"), endpoints.address_of("resolver")
    channel = RpcChannel((sidecar,), beside(sidecar))
    return Leased(ResolverClient(caller, resolver, security), channel, encode=with_session_header)


CAPABILITIES = Capabilities(
    leases=YES,
    shadow=YES,
    shadow_by="sidecar",
    retries=yes("requests over 1 MiB are sent once"),
    retry_budget=YES,
    per_try_timeout=yes("if the client sends `x-per-try-ms`"),
    attempts_reported=YES,
    hedging=yes("if the client sends `x-hedge-ms`"),
    hedge_budget=no("a second attempt that is slow itself is not counted"),
    outlier_ejection=YES,
    ejection_in_a_row=YES,
    circuit_breaker=YES,
    health_checks=YES,
    failover=YES,
    draining=YES,
    slow_start=yes("from 10 % on"),
)

TOPOLOGY = Topology(
    name="mesh",
    reason="directory assistance: a caller asks where to send, and sends there itself",
    route="caller ⇄ resolver beside it (lease); caller → Envoy beside it → model",
    path=("caller", "sidecar", "model"),
    asks=("resolver",),
    strategy=strategy,
    picks_at=ENVOY,
    capabilities=CAPABILITIES,
    colour="#0072b2",
    compared_as="local",
)
