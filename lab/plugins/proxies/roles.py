"""The one proxy of each kind that all callers share, which routes their requests by the header."""

from __future__ import annotations

from collections.abc import Collection

from lab.plugins.proxies.programs import PROGRAMS
from lab.roles import Role, rendered

# Of Go's HTTP client, and of a reverse proxy.
_BY_GO = ("accept-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")


def _role(name: str, title: str, adds_headers: Collection[str] = ()) -> Role:
    return rendered(name, title, "proxies", adds_headers, PROGRAMS[name])


NGINX, HAPROXY = _role("nginx", "NGINX"), _role("haproxy", "HAProxy")
TRAEFIK = _role("traefik", "Traefik", (*_BY_GO, "x-forwarded-port", "x-forwarded-server", "x-real-ip"))
CADDY = _role("caddy", "Caddy", _BY_GO)
