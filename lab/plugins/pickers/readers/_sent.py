"""What second readers share: which blocks were sent where, and ties."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from lab.plugins.pickers.readers._reader import Asked, Reader, Seen

_HEX = 16


class Sent(Reader):
    """Remembers which blocks were sent where, the latest 31,250 at each replica."""

    most = 31_250

    def __init__(self) -> None:
        self._sent: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._clock = 0

    def matched(self, asked: Asked, address: str) -> int:
        """Returns the number of first blocks of the prompt that were sent there."""
        sent, number = self._sent[address], 0
        for block in blocks_of(asked):
            if block not in sent:
                break
            number += 1
        return number

    def took(self, asked: Asked, address: str) -> None:
        sent = self._sent[address]
        for block in blocks_of(asked):
            self._clock += 1
            sent.pop(block, None)
            sent[block] = self._clock
        for block in [*sent][: max(0, len(sent) - self.most)]:
            del sent[block]


def blocks_of(asked: Asked) -> list[str]:
    """Returns the hashes of a prompt's full blocks."""
    text = asked["hashes"]
    return [text[start : start + _HEX] for start in range(0, len(text), _HEX)]


def lowest(seen: Sequence[Seen], value: Callable[[Seen], float]) -> set[str]:
    """Returns the addresses with the least value."""
    values = {each["address"]: value(each) for each in seen}
    low = min(values.values())
    return {address for address, its in values.items() if its == low}
