"""A request as pickers see it, from its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from lab.pickers import Asked
from lab.routing.slo import NO_SLO, Slo
from models.apis import API_BY_REQUEST
from models.tokens.blocks import chain

if TYPE_CHECKING:
    from models.apis import Method


def has_prompt(method: Method | None) -> bool:
    """Whether the requests of a method have a prompt; False for None."""
    return method is not None and API_BY_REQUEST[method.request_class].prompt_of is not None


def asked_in(message: bytes, method: Method, request_id: str, objectives: Mapping[str, Slo]) -> Asked | None:
    """Returns the request that is in a message; None if it cannot be read, or its API has no prompt.

    Args:
        message: serialised.
        method: that it is for.
        request_id: of the request.
        objectives: by use case; what has none may be left out.
    """
    prompt_of = API_BY_REQUEST[method.request_class].prompt_of
    if prompt_of is None:
        return None
    try:
        request = method.request_class.FromString(message)
    except DecodeError:
        return None
    prompt, envelope = prompt_of(request), request.envelope
    tenant, slo = envelope.context.tenant, objectives.get(envelope.use_case, NO_SLO)
    hashes = chain(prompt.tokens, tenant=tenant, lora=prompt.lora)
    return Asked(request_id, hashes, len(prompt.tokens), prompt.session, prompt.lora, tenant, *slo)
