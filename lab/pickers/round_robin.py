"""One replica after the other."""

from __future__ import annotations

from itertools import count

from lab.pickers._picker import ENVOY, GATEWAY, GRPC, GRPC_XDS, Pick, Picker


def _in_turn() -> Pick:
    turns = count(1)
    return lambda replicas: replicas[next(turns) % len(replicas)]


PICKER = Picker(
    name="round-robin",
    line="one replica after the other; what every place does unless it is configured otherwise",
    places={
        GATEWAY: _in_turn,
        ENVOY: {"lb_policy": "ROUND_ROBIN"},
        GRPC: {"round_robin": {}},
        GRPC_XDS: {"lb_policy": "ROUND_ROBIN"},
        "nginx": "",
        "haproxy": "roundrobin",
        "traefik": "wrr",
        "caddy": "round_robin",
        "vllm-router": "round_robin",
        "smg": "round_robin",
    },
)
