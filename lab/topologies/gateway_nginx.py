"""Caller ⇄ resolver beside it, with leases; caller → one NGINX, which routes on the header → model."""

from __future__ import annotations

from lab.topologies._by_header import by_header
from lab.topologies._topology import YES, Capabilities, no, yes

TOPOLOGY = by_header(
    "nginx",
    "NGINX",
    reason="an off-the-shelf proxy; its JavaScript replaces keys in shared memory, without a reload",
    capabilities=Capabilities(
        shadow=yes("the client sends the copies"),
        shadow_by="caller",
        retries=no("only of requests that it could not send"),
        draining=YES,
    ),
    colour="#009639",
)
