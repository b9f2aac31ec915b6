"""A cluster's VIP: a real balancer of connections or of requests, which reads its replicas from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.roles._envoy import xds_endpoints

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment

L4, L7 = "vip-l4.yaml", "vip-l7.yaml"

_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


@dataclass(frozen=True, slots=True)
class ReplicasFile:
    """The file that lists a cluster's replicas; all VIPs in front of the same replicas share it."""

    path: Path

    def write(self, addresses: Sequence[str]) -> None:
        """Replaces the list."""
        endpoints = json.loads(xds_endpoints(",".join(addresses)))
        assignment = {"@type": _ASSIGNMENT, "cluster_name": "model", "endpoints": [{"lb_endpoints": endpoints}]}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"resources": [assignment]}))
        new.rename(self.path)  # Envoy reads the file only when another is moved to its place


def start_vip(
    environment: Environment, name: str, template: str, replicas: ReplicasFile, *, max_age_s: float = 0.0
) -> str:
    """Starts a VIP, which ends with the lab, and returns its address.

    An :data:`L4` VIP cuts connections that are ``max_age_s`` seconds old; 0 for never.
    """
    address = environment.address(name)
    host, port = address.rsplit(":", 1)
    config = Template((CHECKOUT / "envoy" / template).read_text()).substitute(
        host=host,
        port=port,
        endpoints=replicas.path,
        renewal=f"max_downstream_connection_duration: {max_age_s:g}s" if max_age_s else "",
    )
    environment.start_envoy(name, address, config)
    return address
