"""The second reader of ``prefix-exact``: it follows the logged batches separately."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab.plugins.pickers.readers._kv_events import CLEARED, STORED, events_in
from lab.plugins.pickers.readers._reader import PickReader, Reader

if TYPE_CHECKING:
    from lab.plugins.pickers.readers._reader import Asked, Seen


class _PrefixExact(Reader):
    def __init__(self) -> None:
        self._stored: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        self._expected: dict[str, int] = {}
        self._lost: set[str] = set()

    def heard(self, batches: Sequence[Sequence[Any]]) -> None:
        for address, number, payload in batches:
            if number == 0:
                self._begin(address)
            elif self._expected.get(address, -1) != number:
                self._lost.add(address)
            self._expected[address] = number + 1
            for kind, blocks in events_in(payload):
                if kind == CLEARED:
                    self._begin(address)
                for block in blocks:
                    self._stored[address][block] = kind == STORED

    def _begin(self, address: str) -> None:
        self._lost.discard(address)
        self._stored[address].clear()

    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        best: list[tuple[int, int, str]] = []
        for each in seen:
            stored, held = self._stored[each["address"]], 0
            while each["address"] not in self._lost and stored.get(asked["hashes"][16 * held : 16 * held + 16]):
                held += 1
            best.append((-held, each["in_flight"], each["address"]))
        return {address for held, busy, address in best if (held, busy) == min(best)[:2]}


READER = PickReader("prefix-exact", _PrefixExact)
