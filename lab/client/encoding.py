"""Forms in which a request travels: the whole message, or with a part of it repeated or moved to a header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lab.routing.headers import ENVELOPE
from lab.routing.keys import TENANT_HEADER, tenant_in_header

if TYPE_CHECKING:
    from lab.client.rpc_channel import Metadata
    from models.apis import InferenceRequest

Encode = Callable[["InferenceRequest", Mapping[str, str]], tuple[bytes, "Metadata"]]


def whole(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, and no headers."""
    del context
    return request.SerializeToString(), ()


def with_tenant_header(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message, and its tenant in a header, for a proxy that limits tenants' rates."""
    return request.SerializeToString(), ((TENANT_HEADER, tenant_in_header(context.get("tenant", ""))),)


def envelope_in_header(request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
    """The message without its envelope, which is a header, for a gateway that does not parse the body."""
    del context
    envelope = request.envelope.SerializeToString()
    request.ClearField("envelope")
    return request.SerializeToString(), ((ENVELOPE, envelope),)
