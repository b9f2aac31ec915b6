"""One Envoy for each cluster, as a TCP proxy: each connection goes to one replica, and stays there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lab.roles import Placement, Probe, Role, StartingLab, Unit
from lab.roles._envoy import envoy_address, xds_cluster

if TYPE_CHECKING:
    from lab.roles import Layout

NAME = "vip"
_TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_CONNECTS = 2
"""Attempts to connect: a replica that has just died costs no connection."""
_TIMEOUT_S = 1.0


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    """A unit for each cluster with a hard-coded address, in the order of their names, which the strategy relies on."""
    targets = {} if caller else lab.hard_coded(lambda port: port.inside)
    replicas = {each.cluster: each.addresses for each in targets.values()}
    for cluster, addresses in sorted(replicas.items()):
        yield _unit(lab, cluster, addresses)


def _unit(lab: Layout, cluster: str, replicas: Sequence[str]) -> Unit:
    name = f"{cluster}-{NAME}"
    port = lab.site.port(name, "grpc")
    upstream_hosts = xds_cluster(",".join(replicas))
    filters = [
        {
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": _TCP_PROXY,
                "stat_prefix": NAME,
                "cluster": cluster,
                "max_connect_attempts": _CONNECTS,
            },
        }
    ]
    listener = {
        "name": NAME,
        "address": envoy_address(port.bind),
        "enable_reuse_port": False,
        "filter_chains": [{"filters": filters}],
    }
    lb_endpoints = json.loads(upstream_hosts["control_planes"])
    assignment = {"cluster_name": cluster, "endpoints": [{"lb_endpoints": lb_endpoints}]}
    upstream = {
        "name": cluster,
        "type": upstream_hosts["discovery"],
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": assignment,
    }
    bootstrap = {"static_resources": {"listeners": [listener], "clusters": [upstream]}}
    argv = (
        *("envoy", "--config-path", lab.site.path(name, "envoy.json"), "--service-node", name),
        *("--service-cluster", NAME, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"),
    )
    return Unit(name, NAME, argv, port, files={"envoy.json": json.dumps(bootstrap)}, pod=name)


def _not_listening(units: Sequence[Unit], lab: StartingLab) -> Iterable[str]:
    return [unit.name for unit in units if unit.name not in lab.paused and not _accepts(unit.address)]


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


ROLE = Role(
    name=NAME,
    title="VIPs",
    placement=Placement.REPLICATED,
    units=_units,
    probe=Probe(missing=_not_listening, container="open"),
    adds_headers=frozenset(),
)
