"""A conversation stays at its replica; a new one begins where the fewest are.

As vllm-router's ``sticky_least_loaded`` (vllm-project/router src/policies), whose sessions end after 7,200 s.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least

TTL_S = 7_200.0
MOST = 100_000
"""Sessions that it knows; the one that has been idle for longest is forgotten first."""


class _Session(Stateless):
    def __init__(self) -> None:
        self._at: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._sessions: Counter[str] = Counter()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        if not asked.session:
            return least(seen, lambda each: each.in_flight)
        now = time.monotonic()
        self._forget(now)
        address, _ = self._at.pop(asked.session, ("", 0.0))
        self._sessions[address] -= bool(address)
        places = {each.address: place for place, each in enumerate(seen)}
        if address not in places:
            address = seen[least(seen, lambda each: self._sessions[each.address])].address
        self._at[asked.session] = address, now
        self._sessions[address] += 1
        return places[address]

    def _forget(self, now: float) -> None:
        while self._at:
            session, (address, used) = next(iter(self._at.items()))
            if len(self._at) < MOST and now - used < TTL_S:
                return
            del self._at[session]
            self._sessions[address] -= 1


PICKER = Picker(
    name="session",
    line="a conversation stays at its replica; a new one begins where the fewest are",
    places=at_gateway_only(_Session, NO_PROMPT),
    reads_prompt=True,
    skewed=True,
)
