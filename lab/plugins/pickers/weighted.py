"""The replica with the greatest weighted sum of scores: queue 2, KV cache 2, prefix 3.

As llm-d-router's built-in default (pkg/epp/config/loader/defaults.go). The queue's score is 1 for the shortest and 0
for the longest, the KV cache's the share that is free, the prefix's the share of the prompt's blocks that match.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least
from lab.plugins.pickers._prefix_index import PrefixIndex

QUEUE, KV, PREFIX = 2, 2, 3


class _Weighted(Stateless):
    def __init__(self) -> None:
        self._index = PrefixIndex()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        shortest, longest = min(each.waiting for each in seen), max(each.waiting for each in seen)

        def negative_score(each: Seen) -> float:
            queue = (longest - each.waiting) / (longest - shortest) if longest > shortest else 1.0
            matched = self._index.match(each.address, asked.hashes) / max(len(asked.hashes), 1)
            return -(QUEUE * queue + KV * (1 - each.kv_used) + PREFIX * matched)

        place = least(seen, negative_score)
        self._index.add(seen[place].address, asked.hashes)
        return place


PICKER = Picker(
    name="weighted",
    line="the best sum of scores: queue 2, free KV cache 2, prefix 3",
    places=at_gateway_only(_Weighted, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
