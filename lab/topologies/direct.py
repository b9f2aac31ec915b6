"""Caller → model at a hard-coded address."""

from __future__ import annotations

from lab.client.direct import DirectClient
from lab.topologies._topology import YES, Capabilities, Topology, no, yes

TOPOLOGY = Topology(
    name="direct",
    reason="latency floor; breaks when a model moves, and knows no rules",
    route="caller → model at a hard-coded address",
    path=("caller", "model"),
    decided_by="caller",
    client=DirectClient,
    capabilities=Capabilities(
        follows_rules=no("the address is hard-coded"),
        sticky_splits=no(),
        deadlines=yes("10 s, always"),
        attempts_reported=YES,
        draining=yes("streams finish; new requests go elsewhere by the replica's health service"),
    ),
    colour="#7b858f",
    in_scenarios=False,  # it follows no rules; scenarios about that name it
)
