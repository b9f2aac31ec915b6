"""What a picker reads of a request: headers, and in full duplex its first gRPC message, by whose prompt it may pick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from lab.pickers import Asked
from lab.plugins.endpoint_picker.bodies import MOST_HELD, message_in
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import SESSION_HEADER, TENANT_HEADER
from lab.routing.slo import NO_SLO
from models.apis import API_BY_REQUEST, METHODS
from models.tokens.blocks import chain

if TYPE_CHECKING:
    from lab.routing.compiled import Router

READ, HEADERS_ONLY, NO_PROMPT, TOO_LONG, UNREADABLE = "read", "headers only", "no prompt", "too long", "unreadable"
"""What became of a request's prompt: ``no prompt`` if its API has none, ``too long`` if its message is larger than
:data:`lab.plugins.endpoint_picker.bodies.MOST_HELD`, ``unreadable`` if it is compressed, cut off, or not a message."""


def asked_of(headers: Mapping[str, str], body: bytes | None, router: Router) -> tuple[Asked, str]:
    """Returns a request as pickers see it, and what became of its prompt.

    Args:
        headers: of the request.
        body: what was read of it: its first message, or less; None if it does not pass through the picker.
        router: has the objectives of use cases.
    """
    name, tenant = headers.get(REQUEST_ID, ""), headers.get(TENANT_HEADER, "")
    without = Asked(name, (), 0, headers.get(SESSION_HEADER, ""), "", tenant)
    if body is None:
        return without, HEADERS_ONLY
    method = METHODS.get(headers.get(":path", ""))
    prompt_of = API_BY_REQUEST[method.request_class].prompt_of if method is not None else None
    if method is None or prompt_of is None:
        return without, NO_PROMPT
    message = message_in(body)
    if message is None or len(message) > MOST_HELD:
        return without, TOO_LONG if len(body) >= MOST_HELD else UNREADABLE
    try:
        request = method.request_class.FromString(message)
    except DecodeError:
        return without, UNREADABLE
    prompt, envelope = prompt_of(request), request.envelope
    tenant, use_case = envelope.context.tenant, router.use_cases.get(envelope.use_case)
    slo = use_case.slo if use_case is not None else NO_SLO
    hashes = chain(prompt.tokens, tenant=tenant, lora=prompt.lora)
    return Asked(name, hashes, len(prompt.tokens), prompt.session, prompt.lora, tenant, *slo), READ
