"""Caller ⇄ resolver beside it, with leases; caller → one Traefik, which routes on the header → model."""

from __future__ import annotations

from lab.topologies._by_header import by_header
from lab.topologies._topology import YES, Capabilities, yes

TOPOLOGY = by_header(
    "traefik",
    "Traefik",
    reason="somebody else's proxy; a router for each key, in a file that it watches",
    capabilities=Capabilities(
        shadow=yes("the client sends the copies"),
        shadow_by="caller",
        draining=YES,
    ),
    colour="#24a1c1",
)
