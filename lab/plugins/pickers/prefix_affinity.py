"""Of the replicas that hold most of the prompt, the one with the fewest uncached tokens in flight; with a valve.

As llm-d-router's ``prefix-cache-affinity-filter`` (pkg/epp/framework/plugins/**/README.md): it keeps replicas with
:data:`STICKY` of the prompt, and all if there are none, or if the best of them is :data:`VALVE_TOKENS` busier than the
best other. There the valve is 18,000 ms at 15,928 tokens a second, about 287,000 tokens, for large accelerators.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, least
from lab.plugins.pickers._tokens_in_flight import TokensInFlight

STICKY, VALVE_TOKENS = 0.8, 2_048


class _PrefixAffinity:
    def __init__(self) -> None:
        self._tokens = TokensInFlight()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        places = self._kept(asked, seen)
        place = places[least([seen[each] for each in places], lambda each: self._tokens.at(each.address))]
        self._tokens.add(asked, seen[place].address)
        return place

    def _kept(self, asked: Asked, seen: Sequence[Seen]) -> list[int]:
        blocks, tokens = len(asked.hashes), self._tokens
        sticky = [
            place
            for place, each in enumerate(seen)
            if blocks and tokens.index.match(each.address, asked.hashes) >= STICKY * blocks
        ]
        others = [place for place in range(len(seen)) if place not in sticky]
        if not sticky or not others:
            return [*range(len(seen))]
        busier = min(tokens.at(seen[each].address) for each in sticky)
        busier -= min(tokens.at(seen[each].address) for each in others)
        return [*range(len(seen))] if busier > VALVE_TOKENS else sticky

    def ended(self, asked: Asked, address: str) -> None:
        self._tokens.remove(asked, address)


PICKER = Picker(
    name="prefix-affinity",
    line="a replica that holds 80 % of the prompt, unless all of those are 2,048 tokens busier than another",
    places=at_gateway_only(_PrefixAffinity, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
