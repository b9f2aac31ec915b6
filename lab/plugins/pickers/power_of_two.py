"""Of two replicas, drawn for each request, the one with less load by the signal."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_SIGNAL, Stateless


class _PowerOfTwo(Stateless):
    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        del asked
        drawn = random.sample(range(len(seen)), min(2, len(seen)))
        return min(drawn, key=lambda place: seen[place].load)


PICKER = Picker(
    name="power-of-two",
    line="of two replicas that it draws, the one with less load by the signal",
    places=at_gateway_only(_PowerOfTwo, NO_SIGNAL) | {"vllm-router": "power_of_two", "smg": "power_of_two"},
    skewed=True,
)
