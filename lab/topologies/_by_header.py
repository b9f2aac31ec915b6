"""What the topologies have in common whose one central proxy routes on the header, and is configured by a renderer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Leased
from lab.topologies._topology import YES, Capabilities, Topology

if TYPE_CHECKING:
    from lab.transport import Security


def by_header(role: str, proxy: str, *, reason: str, capabilities: Capabilities, colour: str) -> Topology:
    """The topology of a proxy.

    Args:
        role: of the proxy, e.g. ``nginx``.
        proxy: what people call it, e.g. ``NGINX``.
        reason: see :class:`Topology`, as are the others.
        capabilities: what it does, configured as here.
        colour: in charts.
    """

    def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Leased:
        # Not by Envoy: the client sends the copies for a shadow.
        resolver = ResolverClient(caller, endpoints.address_of("resolver"), security, through_envoy=False)
        proxy = RpcChannel((endpoints.address_of(role),), security, peer=role, watches_health=False)
        return Leased(resolver, proxy)

    return Topology(
        name=f"gateway-{role}",
        reason=reason,
        route=f"caller ⇄ resolver beside it (lease); caller → one {proxy}, which routes on the header → model",
        path=("caller", role, "model"),
        asks=("resolver",),
        strategy=strategy,
        capabilities=replace(capabilities, leases=YES),
        colour=colour,
        in_default_lab=False,
        in_scenarios=False,
    )
