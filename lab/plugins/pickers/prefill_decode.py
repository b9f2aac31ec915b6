"""Prefill and decode apart: a replica that decodes, and for a prompt that is mostly new there, one that prefills.

As llm-d-router's profile handler (docs/disaggregation.md): the replica that decodes is picked first, and gets the
request; above :data:`BOUND` uncached tokens (there ``nonCachedTokens`` of ``prefix-based-pd-decider``), a replica that
only prefills is picked, too, and named in a header. To decode, it takes the replica with the fewest requests in flight,
of several the one that was sent most of the prompt; to prefill, the one with the fewest uncached tokens in flight.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, least
from lab.plugins.pickers._tokens_in_flight import TokensInFlight

BOUND = 256


class _PrefillDecode:
    def __init__(self) -> None:
        self._decoding, self._prefilling = TokensInFlight(), TokensInFlight()
        self._prefillers: dict[tuple[str, str], list[str]] = {}

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        known = [each for each in seen if each.age_ms >= 0] or seen  # of others it does not know what they do
        among = [each for each in known if not each.prefills] or known
        match = self._decoding.index.match
        place = least(among, lambda each: (each.in_flight, -match(each.address, asked.hashes)))
        return seen.index(among[place])

    def prefiller(self, asked: Asked, seen: Sequence[Seen], picked: int) -> str:
        decodes, tokens = seen[picked].address, self._prefilling
        among = [each for each in seen if each.prefills and each.address != decodes]
        found = ""
        if among and self._decoding.uncached(asked, decodes) > BOUND:
            place = least(among, lambda each: tokens.at(each.address) + tokens.uncached(asked, each.address))
            found = among[place].address
            tokens.add(asked, found)
        self._decoding.index.add(decodes, asked.hashes)
        self._prefillers.setdefault((asked.request_id, decodes), []).append(found)
        return found

    def ended(self, asked: Asked, address: str) -> None:
        key = asked.request_id, address
        if found := self._prefillers[key].pop():
            self._prefilling.remove(asked, found)
        if not self._prefillers[key]:
            del self._prefillers[key]


PICKER = Picker(
    name="prefill-decode",
    line=f"the least busy replica that decodes; above {BOUND} uncached tokens, another one that prefills for it",
    places=at_gateway_only(_PrefillDecode, NO_PROMPT, needs_reports=True, picks_prefillers=True),
    reads_prompt=True,
    skewed=True,
)
