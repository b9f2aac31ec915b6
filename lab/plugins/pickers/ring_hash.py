"""A conversation's replica by a ring of hashes, with bounded load: one that is too busy passes it on to the next.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): no replica has more than
:data:`BOUND` times the mean of the attempts in flight, rounded up.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless

POINTS, BOUND = 100, 1.25


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class _RingHash(Stateless):
    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._ring: list[tuple[int, int]] = []

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        addresses = tuple(each.address for each in seen)
        if addresses != self._addresses:
            self._addresses = addresses
            self._ring = sorted(
                (_point(f"{address}#{number}"), place)
                for place, address in enumerate(addresses)
                for number in range(POINTS)
            )
        most = ceil(BOUND * (1 + sum(each.in_flight for each in seen)) / len(seen))
        first = bisect(self._ring, (_point(asked.session or asked.request_id), -1))
        in_order = dict.fromkeys(place for _, place in (*self._ring[first:], *self._ring[:first]))
        return next(place for place in in_order if seen[place].in_flight < most)


PICKER = Picker(
    name="ring-hash",
    line="a conversation's replica by a ring of hashes; one with 1.25 times the mean in flight passes it on",
    places=at_gateway_only(_RingHash, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
