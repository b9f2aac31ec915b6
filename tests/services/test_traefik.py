"""Traefik's configuration."""

from __future__ import annotations

from lab.plugins.proxies.traefik import rendered
from lab.routing.keys import HEADER
from services.renderer.proxy import Configuration, Upstream


def test_a_request_with_a_key_passes_by_the_router_of_its_key_alone() -> None:
    """Else the probe of a configuration comes through before Traefik follows it."""
    renderer = Upstream(("127.0.0.1:1",), "renderer")
    upstreams = {"renderer-probe.v1": renderer, "rows.v1": Upstream(("127.0.0.1:2",), "model")}

    routers = rendered(Configuration("traefik/traefik", "127.0.0.1:3", upstreams, renderer, None))["http"]["routers"]

    by_key = [rule for each in routers.values() if (rule := each["rule"]).startswith(f"Header(`{HEADER}`")]
    assert len(by_key) == len(upstreams)
    assert routers["health"]["rule"].endswith(f"&& !HeaderRegexp(`{HEADER}`, `.`)")
    assert routers["others"]["service"] == "nobody"
