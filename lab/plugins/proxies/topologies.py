"""Caller ⇄ resolver beside it, with leases; caller → one proxy, which routes on the header → model."""

from __future__ import annotations

from dataclasses import replace

from lab.topologies import YES, Capabilities, by_header, no, yes

_OF_ALL = Capabilities(shadow=yes("the client sends the copies"), shadow_by="caller", draining=YES)
_SENDS_AGAIN = replace(_OF_ALL, retries=no("only of requests that it could not send"))

NGINX = by_header(
    "nginx",
    "NGINX",
    reason="an off-the-shelf proxy; its JavaScript replaces keys in shared memory, without a reload",
    capabilities=_SENDS_AGAIN,
    colour="#009639",
)
HAPROXY = by_header(
    "haproxy",
    "HAProxy",
    reason="an off-the-shelf proxy; its runtime socket changes a map and servers, without a reload",
    capabilities=_SENDS_AGAIN,
    colour="#1c7ed6",
)
TRAEFIK = by_header(
    "traefik",
    "Traefik",
    reason="an off-the-shelf proxy; it watches a file with a router for each key",
    capabilities=_OF_ALL,
    colour="#24a1c1",
)
CADDY = by_header(
    "caddy",
    "Caddy",
    reason="an off-the-shelf proxy; its admin API replaces the whole configuration",
    capabilities=_SENDS_AGAIN,
    colour="#d9480f",
)
