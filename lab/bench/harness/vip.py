"""A cluster's VIP: a real balancer, of connections or of requests, that is told of replicas through a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

from lab.checkout import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.bench.harness.environment import Setting

L4, L7 = "vip-l4.yaml", "vip-l7.yaml"

_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


@dataclass(frozen=True, slots=True)
class Replicas:
    """The file that VIPs learn from where a cluster's replicas are.

    Attributes:
        path: of the file; all VIPs in front of the same replicas share it.
    """

    path: Path

    def write(self, addresses: Sequence[str]) -> None:
        """Says where the replicas are from now on."""
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
            for host, _, port in (address.rpartition(":") for address in addresses)
        ]
        assignment = {"@type": _ASSIGNMENT, "cluster_name": "model", "endpoints": [{"lb_endpoints": endpoints}]}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"resources": [assignment]}))
        new.rename(self.path)  # Envoy reads the file when another is moved to its place, and only then


def start_vip(setting: Setting, name: str, template: str, replicas: Replicas, *, renewal_s: float = 0.0) -> str:
    """Starts a VIP, which ends with the lab, and returns its address.

    Args:
        setting: the lab that it stands beside.
        name: of its unit.
        template: :data:`L4` or :data:`L7`.
        replicas: where it learns of them; written before.
        renewal_s: cuts a connection that is so old, seconds; 0 for never. L4 only.
    """
    address = setting.address(name)
    host, port = address.rsplit(":", 1)
    config = Template((CHECKOUT / "envoy" / template).read_text()).substitute(
        host=host,
        port=port,
        endpoints=replicas.path,
        renewal=f"max_downstream_connection_duration: {renewal_s:g}s" if renewal_s else "",
    )
    argv = (
        "envoy",
        *("--config-path", setting.path(name, "envoy.yaml")),
        *("--service-node", name),
        *("--service-cluster", name),
        # One worker: several would each deal out connections in a turn of their own.
        *("--concurrency", "1"),
        "--disable-hot-restart",
        *("--log-level", "warn"),
    )
    setting.start(name, argv, address, {"envoy.yaml": config})
    return address
