"""Caller → gateway, which decides by a header and passes the payload's bytes on → model."""

from __future__ import annotations

from dataclasses import replace

from lab.client.gateway_passthrough import GatewayPassthroughClient
from lab.topologies import gateway
from lab.topologies._topology import Topology, no

TOPOLOGY = Topology(
    name="gateway-passthrough",
    reason="takes the parsing cost out",
    route="the same gateway, bytes passed on unparsed: use case and context travel in a header",
    path=("caller", "gateway", "model"),
    decided_by="gateway",
    client=GatewayPassthroughClient,
    capabilities=replace(gateway.CAPABILITIES, reads_payload=no("the envelope travels in a header")),
    colour="#e69f00",
    long_scenarios_on=("compose",),
)
