"""Which blocks each replica probably holds: those of the prompts that were sent there, the latest ones."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence

CAPACITY = 31_250
"""Blocks for each replica, as llm-d-router (pkg/epp/framework/plugins/**/approximateprefix)."""


class PrefixIndex:
    """Blocks by replica. It learns of what it sent, and never of what a replica has dropped."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._blocks: defaultdict[str, OrderedDict[bytes, None]] = defaultdict(OrderedDict)

    def match(self, address: str, hashes: Sequence[bytes]) -> int:
        """Number of first blocks that the replica probably holds."""
        blocks = self._blocks[address]
        return next((place for place, each in enumerate(hashes) if each not in blocks), len(hashes))

    def add(self, address: str, hashes: Sequence[bytes]) -> None:
        """Notes that a prompt was sent to the replica."""
        blocks = self._blocks[address]
        for each in hashes:
            blocks[each] = None
            blocks.move_to_end(each)
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)
