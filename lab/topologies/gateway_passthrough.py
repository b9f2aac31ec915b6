"""Caller → gateway, which decides by a header and passes the payload's bytes on → model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.client.strategies import Gateway, envelope_in_header
from lab.topologies import gateway
from lab.topologies._topology import Topology, no

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.transport import Security


def strategy(caller: str, endpoints: Endpoints, security: Security | None) -> Gateway:
    """Sends to the gateway replicas in turn, with the envelope in a header."""
    del caller
    return Gateway(endpoints.addresses_of("gateway"), security, encode=envelope_in_header)


TOPOLOGY = Topology(
    name="gateway-passthrough",
    reason="shows what parsing costs: the same gateway without it",
    route="the same gateway, bytes passed on unparsed: use case and context travel in a header",
    path=("caller", "gateway", "model"),
    strategy=strategy,
    capabilities=replace(gateway.CAPABILITIES, reads_payload=no("the envelope travels in a header")),
    colour="#e69f00",
    long_scenarios_on=("compose",),
)
