"""The replica with the shortest queue by the signal; of these the one with the fewest tokens reserved."""

from __future__ import annotations

from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_SIGNAL, Stateless, least


class _QueueDepth(Stateless):
    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        del asked
        return least(seen, lambda each: (each.waiting, each.tokens))


PICKER = Picker(
    name="queue-depth",
    line="the replica with the shortest queue by the signal, of these the one with the fewest tokens reserved",
    places=at_gateway_only(_QueueDepth, NO_SIGNAL),
    skewed=True,
)
