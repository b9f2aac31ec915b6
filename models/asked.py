"""A request as pickers of replicas see it, from its parsed message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lab.pickers import Asked
from models.tokens.blocks import chain

if TYPE_CHECKING:
    from lab.routing.slo import Slo
    from models.apis import Prompt


def asked_of(message: Any, request_id: str, slo: Slo, prompt_of: Callable[[Any], Prompt] | None) -> Asked:
    """Returns the request that a message of any API holds, with the objectives of its use case.

    Args:
        message: with its envelope.
        request_id: of the request.
        slo: of its use case; counts only with a prompt.
        prompt_of: of its API; None if the prompt is not to be read, or if there is none.
    """
    tenant = message.envelope.context.tenant
    if prompt_of is None:
        return Asked(request_id, (), 0, "", "", tenant)
    prompt = prompt_of(message)
    hashes = chain(prompt.tokens, tenant=tenant, lora=prompt.lora)
    return Asked(request_id, hashes, len(prompt.tokens), prompt.session, prompt.lora, tenant, *slo)
