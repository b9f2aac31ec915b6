"""A replica that has the request's adapter (LoRA) loaded, of these the one with the least load.

As llm-d-router's ``lora-affinity`` scorer (pkg/epp/framework/plugins/**): 1.0 for a replica that has the adapter, 0.8
for one with room for it, 0.6 for one where requests wait for it already, 0 for others.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least

HAS, ROOM, WAITS, NONE = range(4)


class _Lora(Stateless):
    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        return least(seen, lambda each: (_rank(asked.lora, each), each.load))


def _rank(lora: str, each: Seen) -> int:
    if not lora or lora in each.loras:
        return HAS
    if len(each.loras) + len(each.waiting_loras) < each.max_loras:
        return ROOM
    return WAITS if lora in each.waiting_loras else NONE


PICKER = Picker(
    name="lora",
    line="a replica that has the adapter loaded, else one with room for it; of several the least load",
    places=at_gateway_only(_Lora, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
