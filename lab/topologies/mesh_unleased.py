"""``mesh`` without leases: the resolver is asked on every call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client import Endpoints, ResolverClient, RpcChannel
from lab.client.strategies import Unleased, with_session_header
from lab.pickers import ENVOY
from lab.topologies import mesh
from lab.topologies._topology import NO
from lab.transport.channels import beside

if TYPE_CHECKING:
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Unleased:
    """Asks the resolver on every call, and sends to the Envoy beside the caller."""
    sidecar, resolver = endpoints.address_of("sidecar"), endpoints.address_of("resolver")
    channel = RpcChannel((sidecar,), beside(sidecar))
    return Unleased(ResolverClient(caller, resolver, security), channel, encode=with_session_header)


TOPOLOGY = replace(
    mesh.TOPOLOGY,
    name="mesh-unleased",
    reason="shows what leases save",
    route="`mesh`, asking the resolver on every call",
    strategy=strategy,
    capabilities=replace(mesh.CAPABILITIES, leases=NO),
    picks_at=ENVOY,
    colour="#56b4e9",
    compared_as="",
    in_scenarios=False,  # resolving on every call changes what a request costs, not where it goes
)
