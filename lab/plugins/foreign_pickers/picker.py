"""The policy of third-party routers that goes by prompts."""

from __future__ import annotations

from lab.pickers import ENVOY, GATEWAY, GRPC, GRPC_XDS, Cannot, Picker
from lab.plugins.foreign_pickers.routers import ROUTERS

_THEIRS = Cannot("it is a policy of third-party routers")

PICKER = Picker(
    name="cache-aware",
    line="vllm-router's and smg's own: by a tree of the prompts that each worker has had, unless loads differ much",
    places=dict.fromkeys((GATEWAY, ENVOY, GRPC, GRPC_XDS, "nginx", "haproxy", "traefik", "caddy"), _THEIRS)
    | dict.fromkeys(ROUTERS, "cache_aware"),
    reads_prompt=True,
    skewed=True,
)
