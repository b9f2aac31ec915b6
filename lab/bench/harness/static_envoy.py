"""A bare Envoy with one static cluster: the yardstick for what the mesh's sidecar does besides forwarding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from lab.client import Endpoints

if TYPE_CHECKING:
    from lab.bench.harness.environment import Environment

NAME = "static-envoy"

_TEMPLATE = Path(__file__).parents[3] / "envoy" / "static.yaml"


def through_static_envoy(environment: Environment, caller: str, use_case: str, cluster: str) -> Endpoints:
    """Starts such an Envoy before a model cluster; returns endpoints with which a ``direct`` client goes through it.

    They differ from the endpoints of the caller's ``direct`` client in the address alone.
    """
    address = environment.address(NAME)
    host, port = address.rsplit(":", 1)
    replicas = [each.rsplit(":", 1) for each in environment.replicas(cluster)]
    endpoints = ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: {its_host}, port_value: {its_port}}}}}}}}}"
        for its_host, its_port in replicas
    )
    config = Template(_TEMPLATE.read_text()).substitute(host=host, port=port, endpoints=endpoints)
    argv = ("envoy", "--config-path", environment.path(NAME, "envoy.yaml"), "--concurrency", "1")
    environment.start(NAME, (*argv, "--disable-hot-restart", "--log-level", "warn"), address, {"envoy.yaml": config})
    target = environment.state.plan.clients[caller].direct[use_case]
    return Endpoints(direct={use_case: replace(target, addresses=(address,))})
