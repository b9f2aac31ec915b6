"""The replica that was sent the longest beginning of the prompt before."""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least
from lab.plugins.pickers._prefix_index import PrefixIndex


class _Prefix(Stateless):
    def __init__(self) -> None:
        self._index = PrefixIndex()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        place = least(seen, lambda each: -self._index.match(each.address, asked.hashes))
        self._index.add(seen[place].address, asked.hashes)
        return place


PICKER = Picker(
    name="prefix",
    line="the replica that was sent the longest beginning of the prompt before",
    places=at_gateway_only(_Prefix, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
