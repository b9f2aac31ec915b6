"""The catalogue of topologies: to add one is to add a client class and an entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.direct import DirectClient
from lab.client.gateway import GatewayClient
from lab.client.gateway_header import GatewayHeaderClient
from lab.client.gateway_passthrough import GatewayPassthroughClient
from lab.client.mesh import MeshClient, UnleasedMeshClient
from lab.client.proxyless import ProxylessClient
from lab.errors import SpecError

if TYPE_CHECKING:
    from lab.client.base import BeforeSend, Client, DefaultAnswer
    from lab.client.endpoints import Endpoints
    from lab.transport import Security

TOPOLOGIES: dict[str, type[Client]] = {
    kind.topology: kind
    for kind in (
        DirectClient,
        GatewayClient,
        GatewayPassthroughClient,
        GatewayHeaderClient,
        MeshClient,
        UnleasedMeshClient,
        ProxylessClient,
    )
}


def open_client(
    topology: str,
    caller: str,
    endpoints: Endpoints,
    *,
    default_answer: DefaultAnswer | None = None,
    security: Security | None = None,
    before_send: BeforeSend | None = None,
) -> Client:
    """A client that sends in ``caller``'s name. Needs a running event loop.

    Args:
        topology: one of :data:`TOPOLOGIES`.
        caller: the service in whose name requests are sent.
        endpoints: the addresses that the topology needs; others may be left out.
        default_answer: ``(use_case, request, context) -> response`` for when nobody can say where to send, or all
            versions of a chain of fallbacks have failed.
        security: credentials; this process's own by default.
        before_send: see :class:`lab.client.Client`.

    Raises:
        SpecError: the topology is not known, or lacks an address that it needs.
    """
    try:
        kind = TOPOLOGIES[topology]
    except KeyError:
        raise SpecError(f"topology {topology!r} is not known; there are {', '.join(TOPOLOGIES)}") from None
    return kind(caller, endpoints, default_answer=default_answer, security=security, before_send=before_send)
