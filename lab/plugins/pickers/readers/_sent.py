"""What second readers share: which blocks were sent where, and ties."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from lab.plugins.pickers.readers._reader import Asked, Reader, Seen

_HEX, _BLOCK = 16, 16


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


class Tokens(Sent):
    """Sums up what was sent to each replica, not cached there, and has not ended."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str, int]] = []

    def new(self, asked: Asked, address: str) -> int:
        """Returns the tokens of the prompt that the replica would have to compute."""
        return int(asked["tokens"]) - _BLOCK * self.matched(asked, address)

    def busy(self, address: str) -> int:
        """Returns such tokens in flight."""
        return sum(tokens for _, where, tokens in self._open if where == address)

    def took(self, asked: Asked, address: str) -> None:
        self._open.append((asked["request_id"], address, self.new(asked, address)))
        super().took(asked, address)

    def over(self, asked: Asked, address: str) -> None:
        name = asked["request_id"]
        ended = [place for place, each in enumerate(self._open) if each[:2] == (name, address)]
        if ended:
            del self._open[ended[-1]]


def blocks_of(asked: Asked) -> list[str]:
    """Returns the hashes of a prompt's full blocks."""
    text = asked["hashes"]
    return [text[start : start + _HEX] for start in range(0, len(text), _HEX)]


def lowest(seen: Sequence[Seen], value: Callable[[Seen], float]) -> set[str]:
    """Returns the addresses with the least value."""
    values = {each["address"]: value(each) for each in seen}
    low = min(values.values())
    return {address for address, its in values.items() if its == low}
