"""The one proxy of each kind that all callers share, which routes their requests by the header."""

from __future__ import annotations

from lab.roles import rendered

# Of Go's HTTP client, and of a reverse proxy.
_BY_GO = ("accept-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")

NGINX = rendered("nginx", "NGINX", stage="proxies", adds_headers=())
HAPROXY = rendered("haproxy", "HAProxy", stage="proxies", adds_headers=())
TRAEFIK = rendered(*("traefik", "Traefik", "proxies"), (*_BY_GO, "x-forwarded-port", "x-forwarded-server", "x-real-ip"))
CADDY = rendered("caddy", "Caddy", stage="proxies", adds_headers=_BY_GO)
