"""The replica with the fewest uncached tokens in flight, this prompt's own included.

As llm-d-router's ``token-load`` scorer (token_load.go), which scores 1 - min(1, tokens / 4,194,304).
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, least
from lab.plugins.pickers._tokens_in_flight import TokensInFlight


class _UncachedTokens:
    def __init__(self) -> None:
        self._tokens = TokensInFlight()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        tokens = self._tokens
        place = least(seen, lambda each: tokens.at(each.address) + tokens.uncached(asked, each.address))
        tokens.add(asked, seen[place].address)
        return place

    def ended(self, asked: Asked, address: str) -> None:
        self._tokens.remove(asked, address)


PICKER = Picker(
    name="uncached-tokens",
    line="the replica with the fewest uncached tokens in flight, this prompt's own included",
    places=at_gateway_only(_UncachedTokens, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
