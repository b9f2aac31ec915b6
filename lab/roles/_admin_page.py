"""An Envoy's admin page in a container: on its own loopback, with a read-only view for this machine.

The page can shut Envoy down, and shows its whole configuration. So a listener that forwards to it from outside the pod
admits only reading requests, and only from the machine that the lab runs on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.roles._unit import Port

_PAGE = "127.0.0.1:9004"
_READ_ONLY = ("/ready", "/stats", "/config_dump", "/clusters", "/memory", "/server_info")
_TYPE = "type.googleapis.com/envoy.extensions.filters"


def addresses(admin: Port, host_address: str) -> tuple[str, dict[str, str]]:
    """Address of the page itself, and the listener and cluster of the view, by their names in the template.

    Args:
        admin: port at which programs on this machine read it.
        host_address: the address from which they connect; empty where the page is on their own loopback anyway.
    """
    if not host_address:
        return admin.bind, {"view_listener": "", "view_cluster": ""}
    chains = [
        {"filter_chain_match": {"source_prefix_ranges": _only("127.0.0.1", host_address)}, "filters": [_read_only()]}
    ]
    listener = {"name": "view", "address": _socket(admin.bind), "enable_reuse_port": False, "filter_chains": chains}
    page = {"lb_endpoints": [{"endpoint": {"address": _socket(_PAGE)}}]}
    cluster = {
        "name": "view",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "view", "endpoints": [page]},
    }
    return _PAGE, {
        "view_listener": f"\n  - {json.dumps(listener)}\n",
        "view_cluster": f"  - {json.dumps(cluster)}\n",
    }


def _read_only() -> dict[str, Any]:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes = [{"match": {"prefix": path, "headers": [get]}, "route": {"cluster": "view"}} for path in _READ_ONLY]
    router = {"@type": f"{_TYPE}.http.router.v3.Router"}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "view",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        },
    }


def _only(*hosts: str) -> list[dict[str, Any]]:
    return [{"address_prefix": host, "prefix_len": 32} for host in hosts]


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
