"""The gateway by REST: ``POST /v1/use-cases/{use_case}:call`` with the JSON of that use case's API.

Requests are transcoded here: models are always called by gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from models.apis import APIS
from models.rest import Resource, Rest

if TYPE_CHECKING:
    from lab.transport.authorization import Guard
    from services.gateway.forwarder import Forwarder

PREFIX, SUFFIX = "/v1/use-cases/", ":call"
_ANY_API = next(iter(APIS.values()))


def rest_of(forwarder: Forwarder, ready: Callable[[], Awaitable[bool]], guard: Guard | None = None) -> Rest:
    """Handler of a gateway's HTTP requests; see :class:`models.rest.Rest`."""

    def find(path: str) -> Resource | None:
        use_case = path.removeprefix(PREFIX).removesuffix(SUFFIX)
        if path != f"{PREFIX}{use_case}{SUFFIX}" or not use_case or "/" in use_case:
            return None
        known = forwarder.use_case(use_case)
        api = APIS.get(known.api) if known else None
        if api is None:
            return Resource(_ANY_API.unary, use_case, envelope_only=True)
        return Resource(api.unary, use_case)

    paths = f"POST {PREFIX}{{use_case}}{SUFFIX}"
    return Rest(handlers=forwarder.unary_handler, find=find, paths=paths, ready=ready, guard=guard)
