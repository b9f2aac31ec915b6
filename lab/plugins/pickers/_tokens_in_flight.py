"""Uncached tokens in flight to each replica, as the one that picks estimates them: reserved at the pick."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from lab.plugins.pickers._prefix_index import PrefixIndex
from models.tokens.blocks import BLOCK

if TYPE_CHECKING:
    from lab.pickers import Asked


class TokensInFlight:
    """Tokens of the prompts in flight to each replica that it probably does not hold."""

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self._tokens: defaultdict[str, int] = defaultdict(int)
        self._of: dict[tuple[str, str], list[int]] = defaultdict(list)

    def uncached(self, asked: Asked, address: str) -> int:
        """Tokens of a prompt that the replica must compute."""
        return asked.tokens - BLOCK * self.index.match(address, asked.hashes)

    def at(self, address: str) -> int:
        """Tokens in flight."""
        return self._tokens[address]

    def add(self, asked: Asked, address: str) -> None:
        """Reserves a pick."""
        tokens = self.uncached(asked, address)
        self._tokens[address] += tokens
        self._of[asked.request_id, address].append(tokens)
        self.index.add(address, asked.hashes)

    def remove(self, asked: Asked, address: str) -> None:
        """Gives back what was reserved."""
        key = asked.request_id, address
        self._tokens[address] -= self._of[key].pop()
        if not self._of[key]:
            del self._of[key]
