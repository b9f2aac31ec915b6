"""What a picker reads of a request: headers, and in full duplex its first gRPC message, by whose prompt it may pick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lab.pickers import Asked
from lab.plugins.endpoint_picker.asked import asked_in, has_prompt
from lab.plugins.endpoint_picker.bodies import MOST_HELD, message_in
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import SESSION_HEADER, TENANT_HEADER
from models.apis import METHODS

if TYPE_CHECKING:
    from lab.routing.slo import Slo

READ, HEADERS_ONLY, NO_PROMPT, TOO_LONG, UNREADABLE = "read", "headers only", "no prompt", "too long", "unreadable"
"""What became of a request's prompt: ``no prompt`` if its API has none, ``too long`` if its message is larger than
:data:`lab.plugins.endpoint_picker.bodies.MOST_HELD`, ``unreadable`` if it is compressed, cut off, or not a message."""


def asked_of(headers: Mapping[str, str], body: bytes | None, objectives: Mapping[str, Slo]) -> tuple[Asked, str]:
    """Returns a request as pickers see it, and what became of its prompt.

    Args:
        headers: of the request.
        body: what was read of it: its first message, or less; None if it does not pass through the picker.
        objectives: of use cases; what has none may be left out.
    """
    name, tenant = headers.get(REQUEST_ID, ""), headers.get(TENANT_HEADER, "")
    without = Asked(name, (), 0, headers.get(SESSION_HEADER, ""), "", tenant)
    if body is None:
        return without, HEADERS_ONLY
    method = METHODS.get(headers.get(":path", ""))
    if method is None or not has_prompt(method):
        return without, NO_PROMPT
    message = message_in(body)
    if message is None or len(message) > MOST_HELD:
        return without, TOO_LONG if len(body) >= MOST_HELD else UNREADABLE
    asked = asked_in(message, method, name, objectives)
    return (without, UNREADABLE) if asked is None else (asked, READ)
