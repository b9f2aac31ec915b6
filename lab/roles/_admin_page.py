"""An Envoy's admin page where others share its network: on its own loopback, with a view of it for this machine alone.

The page can end the Envoy, and shows all that it is told. So what leads there from outside the pod lets through nothing
but looks, and nobody but programs of the machine that the lab stands on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.roles._unit import Port

_PAGE = "127.0.0.1:9004"
_LOOKS = ("/ready", "/stats", "/config_dump", "/clusters", "/memory", "/server_info")
_TYPE = "type.googleapis.com/envoy.extensions.filters"


def addresses(admin: Port, host_address: str) -> tuple[str, dict[str, str]]:
    """Where the page itself is to be, and what the bootstrap has beside it, by its names in the template.

    Args:
        admin: where programs on this machine look at it.
        host_address: the address that they come from; empty where the page is on their own loopback already.
    """
    if not host_address:
        return admin.bind, {"view_listener": "", "view_cluster": ""}
    chains = [
        {"filter_chain_match": {"source_prefix_ranges": _only("127.0.0.1", host_address)}, "filters": [_looking()]}
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


def _looking() -> dict[str, Any]:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes = [{"match": {"prefix": path, "headers": [get]}, "route": {"cluster": "view"}} for path in _LOOKS]
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
