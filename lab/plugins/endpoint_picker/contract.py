"""The endpoint picker protocol: names on the wire.

Source: kubernetes-sigs/gateway-api-inference-extension, docs/proposals/004-endpoint-picker-protocol/README.md.

The picker answers a request's headers with the endpoint, or several, comma-separated in the order in which to try
them, in a header and in metadata, which must be equal. It must pick within the subset that the request's metadata
names, if any. Without a ready endpoint it answers 503; a request that it sheds, 429. When the answer comes, the proxy
says which endpoint has served.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.routing import headers

DESTINATION = headers.DESTINATION
"""Header of the pick, and its key in :data:`NAMESPACE`."""
SERVED = headers.SERVED
"""Key in :data:`NAMESPACE` of the endpoint that has served."""
NAMESPACE = "envoy.lb"
"""Namespace of metadata that both sides read."""
SUBSET_NAMESPACE, SUBSET = "envoy.lb.subset_hint", headers.SUBSET
"""Namespace and key of the endpoints within which to pick."""

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
HEALTH_SERVICES = ("liveness", "readiness", SERVICE)
"""What the picker's health service knows, beside the whole server."""
NO_ENDPOINT = 503
"""HTTP status of a request that has no ready endpoint."""


def as_list(endpoints: Iterable[str]) -> str:
    """Endpoints in the form of the header."""
    return ",".join(endpoints)


def in_list(text: str) -> tuple[str, ...]:
    """The endpoints of a header, in their order."""
    return tuple(each for each in map(str.strip, text.split(",")) if each)
