"""The replica with the fewest requests in flight, as the one that picks counts them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from lab.pickers._picker import ENVOY, GATEWAY, GRPC, GRPC_XDS, Cannot, Picker

_NOT_IN_GRPC = Cannot("gRPC's core has no least-request policy")
_NOT_IN_ROUTERS = Cannot("it has no policy that goes by requests in flight alone")


def _fewest(replicas: Sequence[Any]) -> Any:
    least = min(each.in_flight for each in replicas)
    return random.choice([each for each in replicas if each.in_flight == least])  # noqa: S311 (nothing secret)


PICKER = Picker(
    name="least-request",
    line="the replica with the fewest requests in flight; Envoy compares ten that it draws at random, Traefik two",
    places={
        GATEWAY: lambda: _fewest,
        # It draws so many at random, some of them twice: with two by default, a slow replica of two gets a quarter.
        ENVOY: {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 10}},
        GRPC: _NOT_IN_GRPC,
        GRPC_XDS: _NOT_IN_GRPC,
        "nginx": "least_conn;",
        "haproxy": "leastconn",
        "traefik": "p2c",
        "caddy": "least_conn",
        "vllm-router": _NOT_IN_ROUTERS,
        "smg": _NOT_IN_ROUTERS,
    },
)
