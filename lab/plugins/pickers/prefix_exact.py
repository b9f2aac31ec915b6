"""The replica that holds the longest beginning of the prompt, as its KV events say; of several the least busy one.

As llm-d-router's precise prefix cache: an index that follows what replicas store and remove, and guesses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least
from lab.plugins.pickers._exact_index import ExactIndex


class _PrefixExact(Stateless):
    def __init__(self) -> None:
        self._index = ExactIndex()
        self.on_kv_events = self._index.apply

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        return least(seen, lambda each: (-self._index.match(each.address, asked.hashes), each.in_flight))


PICKER = Picker(
    name="prefix-exact",
    line="the replica that holds the longest beginning of the prompt by its KV events, of several the least busy",
    places=at_gateway_only(_PrefixExact, NO_PROMPT, follows_kv_events=True),
    reads_prompt=True,
    skewed=True,
)
