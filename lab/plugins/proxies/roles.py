"""The one proxy of each kind that all callers share, which routes their requests by the header."""

from __future__ import annotations

from lab.roles import rendered

NGINX = rendered("nginx", "NGINX", stage="proxies")
HAPROXY = rendered("haproxy", "HAProxy", stage="proxies")
TRAEFIK = rendered("traefik", "Traefik", stage="proxies")
CADDY = rendered("caddy", "Caddy", stage="proxies")
