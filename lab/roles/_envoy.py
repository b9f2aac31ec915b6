"""Bootstrap and command of an Envoy that routes on the routing key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from lab import FILES
from lab.identity.envoy import sds_files, sockets_of
from lab.roles._links import LOCAL_CLUSTER, zone_options
from lab.roles._observed import envoy_observed
from lab.roles._unit import ACCESS_LOG, UNIX, Port, Unit
from lab.routing import headers
from lab.routing.keys import COPY_HEADER
from lab.routing.keys_in_lua import IN_BOOTSTRAP

if TYPE_CHECKING:
    from lab.roles._role import Layout

_TEMPLATE = FILES / "envoy" / "by-routing-key.yaml"
ENVOY_HEADERS = frozenset({headers.VIA, COPY_HEADER, "x-forwarded-proto", "x-forwarded-for"}) | headers.TRACE
"""Names of headers that such an Envoy adds to a request, or to its copy."""
_READ_ONLY = ("/ready", "/stats", "/config_dump", "/clusters", "/memory", "/server_info")
_TYPES = "type.googleapis.com/envoy.extensions.filters"
# The configuration comes from the control plane, as limits change with the route table; until then nobody is limited.
_TENANTS_FILTER = json.dumps(
    {
        "name": "tenants",
        "config_discovery": {
            "config_source": {"ads": {}, "resource_api_version": "V3"},
            "default_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "tenants",
            },
            "apply_default_config_without_warming": True,
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"],
        },
    }
)


def envoy(
    lab: Layout,
    name: str,
    role: str,
    port: Port,
    caller: str = "",
    *,
    filters: Iterable[Mapping[str, Any]] = (),
    clusters: Iterable[Mapping[str, Any]] = (),
    replies: Iterable[Mapping[str, Any]] = (),
    metadata: Mapping[str, str] | None = None,
    obeys_picks: bool = False,
) -> Unit:
    """An Envoy beside a caller; without one, an Envoy that all callers share.

    Args:
        lab: the layout.
        name: of the unit.
        role: of the unit.
        port: of the unit.
        caller: that it runs beside.
        filters: of its own, for requests that have passed the key guard, as Envoy's configuration has them.
        clusters: of its own, likewise.
        replies: further mappers of the answers that Envoy itself gives, likewise.
        metadata: more of what it says of itself to the control plane.
        obeys_picks: whether its filters go by headers of picks, and remove those that they do not go by.
    """
    site = lab.site
    admin = site.port(name, "admin", caller)
    secrets = sds_files(site.identity(name)) if lab.secured else {}
    folder = secrets_folder(lab, name)
    zone, zoned, originating = zone_options(lab.spec, site, name, role, caller)
    bootstrap = Template(_TEMPLATE.read_text()).substitute(
        address=json.dumps(envoy_address(port.bind)),
        **xds_cluster(lab.control_plane(name)),
        role=role,
        via=headers.via(role, name),
        shared="" if caller else "yes",
        access_log=site.path(name, ACCESS_LOG),
        secrets=folder,
        **sockets_of(folder, caller),
        **admin_view(site.socket(name, "admin"), admin.bind, site.host_address),
        **IN_BOOTSTRAP,
        **removed_picks(obeys_picks=obeys_picks),
        **{**envoy_observed(lab, name, role, folder), **zoned},
        tenants="" if caller else f"\n          - {_TENANTS_FILTER}",
        own_filters="".join(f"\n          - {json.dumps(each)}" for each in filters),
        own_replies="".join(f"\n            - {json.dumps(each)}" for each in replies),
        own_clusters="".join(f"  - {json.dumps(each)}\n" for each in clusters),
        metadata="".join(f", {field}: {json.dumps(value)}" for field, value in (metadata or {}).items()),
    )
    argv = (
        "envoy",
        *("--config-path", site.path(name, "envoy.yaml")),
        *("--service-node", name),
        *("--service-cluster", caller or name),
        *zone,
        # One thread, also for the central Envoy: a gateway, with which it is compared, has one, too.
        *("--concurrency", "1"),
        # With hot restart, Envoys on one host collide, and each ends together with the process that started it.
        "--disable-hot-restart",
        # Of the access log: as often as a gateway flushes its own; Envoy's default is 10 s.
        *("--file-flush-interval-msec", "250"),
        *("--log-level", "warn"),
    )
    files = {"envoy.yaml": bootstrap, **secrets, **({f"{LOCAL_CLUSTER}.json": originating} if originating else {})}
    return Unit(name, role, argv, port, admin, files, pod=caller or name, logs_requests=True)


def removed_picks(*, obeys_picks: bool = False) -> dict[str, str]:
    """The headers of picks that an Envoy removes from requests, and from copies, as the template has them."""
    picks = "".join(f", {name}" for name in headers.FORGEABLE)
    return {"not_obeyed": "" if obeys_picks else picks, "picks": picks}


def secrets_folder(lab: Layout, name: str) -> str:
    """The folder of an Envoy's SDS files, for the Envoy; empty for plaintext."""
    return str(Path(lab.site.path(name, "envoy.yaml")).parent) if lab.secured else ""


def xds_cluster(control_planes: str) -> dict[str, str]:
    """The control planes, comma-separated ``host:port``, as the template has them: endpoints and discovery."""
    hosts = [address.rpartition(":")[0] for address in control_planes.split(",")]
    named = not all(host.replace(".", "").isdigit() for host in hosts)
    return {"discovery": "STRICT_DNS" if named else "STATIC", "control_planes": xds_endpoints(control_planes)}


def xds_endpoints(addresses: str) -> str:
    """The control planes, comma-separated ``host:port``, as endpoints of a bootstrap, which Envoy tries in turn."""
    return json.dumps([{"endpoint": {"address": envoy_address(each)}} for each in addresses.split(",")])


def admin_view(page: str, bind: str, host_address: str = "") -> dict[str, str]:
    """The admin page of an Envoy, and the listener and cluster of a view of it, by their names in the template.

    The page can shut Envoy down, so it is on a Unix socket of the unit's own. The view admits only reading requests,
    and only from this machine.

    Args:
        page: path of the Unix socket.
        bind: ``host:port`` of the view.
        host_address: address from which this machine connects, where that is not the loopback.
    """
    machine = [host for host in ("127.0.0.1", host_address) if host]
    chains = [{"filter_chain_match": {"source_prefix_ranges": _only(*machine)}, "filters": [_read_only()]}]
    listener = {
        "name": "view",
        "address": envoy_address(bind),
        "enable_reuse_port": False,
        "bypass_overload_manager": True,  # an overloaded Envoy can still be examined
        "filter_chains": chains,
    }
    address = envoy_address(f"{UNIX}{page}")
    endpoints = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    cluster = {
        "name": "view",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "view", "endpoints": [endpoints]},
    }
    return {
        "admin_address": json.dumps(address),
        "view_listener": f"\n  - {json.dumps(listener)}\n",
        "view_cluster": f"  - {json.dumps(cluster)}\n",
    }


def envoy_address(address: str) -> dict[str, Any]:
    """An address of a unit as Envoy's configuration has it; only the unit's user can open a Unix socket."""
    if address.startswith(UNIX):
        return {"pipe": {"path": address.removeprefix(UNIX), "mode": 0o600}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _read_only() -> dict[str, Any]:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes = [
        {"match": {"path_separated_prefix": path, "headers": [get]}, "route": {"cluster": "view"}}
        for path in _READ_ONLY
    ]
    router = {"@type": f"{_TYPES}.http.router.v3.Router"}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "view",
            "normalize_path": True,  # the page resolves /ready/../quitquitquit
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        },
    }


def _only(*hosts: str) -> list[dict[str, Any]]:
    return [{"address_prefix": host, "prefix_len": 32} for host in hosts]
