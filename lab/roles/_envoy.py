"""Bootstrap and command of an Envoy that routes on the routing key."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab.identity.envoy import sds_files, sockets_of
from lab.roles import _admin_page
from lab.roles._unit import ACCESS_LOG, Port, Unit
from lab.routing.keys_in_lua import IN_BOOTSTRAP

if TYPE_CHECKING:
    from lab.roles._role import Layout

_TEMPLATE = Path(__file__).parents[2] / "envoy" / "by-routing-key.yaml"
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


def envoy(lab: Layout, name: str, role: str, port: Port, caller: str = "") -> Unit:
    """An Envoy beside a caller; without one, an Envoy that all callers share."""
    site = lab.site
    admin = site.port(name, "admin", caller)
    page, view = _admin_page.addresses(admin, site.host_address)
    hosts_and_ports = {
        f"{prefix}{part}": value
        for prefix, address in {"": port.bind, "admin_": page}.items()
        for part, value in zip(("host", "port"), address.rsplit(":", 1), strict=True)
    }
    secrets = sds_files(site.identity(name)) if lab.secured else {}
    folder = str(Path(site.path(name, "envoy.yaml")).parent) if secrets else ""
    bootstrap = Template(_TEMPLATE.read_text()).substitute(
        hosts_and_ports,
        control_planes=xds_endpoints(lab.control_plane(name)),
        role=role,
        shared="" if caller else "yes",
        access_log=site.path(name, ACCESS_LOG),
        secrets=folder,
        **sockets_of(folder, caller),
        **view,
        **IN_BOOTSTRAP,
        tenants="" if caller else f"\n          - {_TENANTS_FILTER}",
    )
    argv = (
        "envoy",
        *("--config-path", site.path(name, "envoy.yaml")),
        # The node's name is here and not in the file, so that sidecars with the same ports share one file.
        *("--service-node", name),
        *("--service-cluster", caller or name),
        # One thread, also for the central Envoy: a gateway, with which it is compared, has one, too.
        *("--concurrency", "1"),
        # With hot restart, Envoys on one host collide, and each ends together with the process that started it.
        "--disable-hot-restart",
        # Of the access log: as often as a gateway flushes its own; Envoy's default is 10 s.
        *("--file-flush-interval-msec", "250"),
        *("--log-level", "warn"),
    )
    files = {"envoy.yaml": bootstrap, **secrets}
    return Unit(name, role, argv, port, admin, files, pod=caller or name, logs_requests=True)


def xds_endpoints(addresses: str) -> str:
    """The control planes, ``host:port`` with commas between, as endpoints of a bootstrap, which Envoy tries in turn."""
    hosts_and_ports = [each.rsplit(":", 1) for each in addresses.split(",")]
    return json.dumps(
        [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
            for host, port in hosts_and_ports
        ]
    )
