"""A request as pickers see it, from its serialised message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from lab.routing.slo import NO_SLO, Slo
from models.apis import API_BY_REQUEST
from models.asked import asked_of

if TYPE_CHECKING:
    from lab.pickers import Asked
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
    return asked_of(request, request_id, objectives.get(request.envelope.use_case, NO_SLO), prompt_of)
