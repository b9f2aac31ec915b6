"""Caller ⇄ resolver beside it, with leases; caller → one Traefik, which routes on the header → model."""

from __future__ import annotations

from lab.topologies._by_header import by_header
from lab.topologies._topology import YES, Capabilities, yes

TOPOLOGY = by_header(
    "traefik",
    "Traefik",
    reason="an off-the-shelf proxy; it watches a file with a router for each key",
    capabilities=Capabilities(
        shadow=yes("the client sends the copies"),
        shadow_by="caller",
        draining=YES,
    ),
    colour="#24a1c1",
)
