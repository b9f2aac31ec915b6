"""Caller ⇄ resolver beside it, with leases; the caller's gRPC library speaks xDS and routes itself → model."""

from __future__ import annotations

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased, with_session_header
from lab.pickers import GRPC_XDS
from lab.topologies._topology import YES, Capabilities, Topology, no, yes
from lab.transport import Security, open_xds_channel


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
    """Leases decisions, and sends over a gRPC channel that gets each routing key's replicas by xDS."""
    control_plane = ",".join(endpoints.addresses_of("control-plane"))
    resolver = endpoints.address_of("resolver")
    channel = RpcChannel(("models, by routing key",), channel=open_xds_channel(control_plane, caller, security))
    asked = ResolverClient(caller, resolver, security, through_envoy=False)
    return Leased(asked, channel, encode=with_session_header)


TOPOLOGY = Topology(
    name="proxyless",
    reason="the thinnest path. gRPC cannot mirror, so the client sends shadow copies itself",
    route=(
        "caller ⇄ resolver beside it (lease); caller's gRPC library speaks xDS to the control plane and routes itself "
        "→ model"
    ),
    path=("caller", "model"),
    asks=("resolver",),
    strategy=strategy,
    picks_at=GRPC_XDS,
    capabilities=Capabilities(
        leases=YES,
        shadow=yes("the client sends the copies"),
        shadow_by="caller",
        retries=yes("pauses of 10 ms at least"),
        retry_budget=no("with every replica failing, models get `attempts` times the requests"),
        attempts_reported=no("always 1"),
        outlier_ejection=YES,
        ejection_in_a_row=no(
            "by share: a replica that fails 85 % of at least `errors` requests within a second, with any status"
        ),
        circuit_breaker=yes("`requests` only"),
        failover=YES,
        draining=YES,
    ),
    colour="#009e73",
)
