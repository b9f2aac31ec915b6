"""Blocks of a prompt's tokens, each known by a hash of all tokens up to its end; and a cache of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from struct import pack
from typing import NamedTuple

BLOCK = 16
"""Tokens of a block, as in vLLM and llm-d-inference-sim (docs/kv-cache.md)."""

HASH_BYTES = 8


def chain(prompt: Sequence[int], *, tenant: str, lora: str) -> list[bytes]:
    """The hashes of a prompt's full blocks: each of its parent's hash and its own tokens, 4 bytes each.

    The first one's parent is a hash of tenant and adapter: neither shares blocks with others.
    """
    parent = blake2b(f"{tenant}\0{lora}".encode(), digest_size=HASH_BYTES).digest()
    hashes = []
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        parent = blake2b(parent + pack(f"<{BLOCK}I", *prompt[start : start + BLOCK]), digest_size=HASH_BYTES).digest()
        hashes.append(parent)
    return hashes


class Change(NamedTuple):
    """A block that a cache has stored, or removed."""

    block: bytes
    is_stored: bool


class BlockCache:
    """A KV cache: blocks in use stay; of the others the one that has been unused for longest goes first.

    When a request ends, the last of its blocks counts as unused for longest, as in vLLM: beginnings are worth more.

    Args:
        capacity: blocks.

    Attributes:
        changes: since the last :meth:`take` began.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.changes: list[Change] = []
        self._users: dict[bytes, int] = {}
        self._unused: OrderedDict[bytes, None] = OrderedDict()

    @property
    def used(self) -> float:
        """Share of the blocks that requests use, 0 to 1."""
        return len(self._users) / self.capacity

    def hits(self, hashes: Sequence[bytes], tokens: int) -> int:
        """Number of first blocks that are there; not the whole prompt, whose last token must be computed."""
        found = 0
        while found < min(len(hashes), (tokens - 1) // BLOCK) and self._has(hashes[found]):
            found += 1
        return found

    def take(self, hashes: Sequence[bytes], tokens: int) -> tuple[int, list[bytes]]:
        """Begins to use blocks; returns the number of first ones that were there, and those to :meth:`release`.

        Blocks for which there is no room are not cached.
        """
        found = self.hits(hashes, tokens)
        taken = []
        self.changes = []
        for each in hashes:
            if each in self._users:
                self._users[each] += 1
            elif each in self._unused:
                del self._unused[each]
                self._users[each] = 1
            elif self._make_room():
                self._users[each] = 1
                self.changes.append(Change(each, is_stored=True))
            else:
                break
            taken.append(each)
        return found, taken

    def release(self, taken: Sequence[bytes]) -> None:
        """Ends the use of blocks."""
        for each in reversed(taken):
            self._users[each] -= 1
            if not self._users[each]:
                del self._users[each]
                self._unused[each] = None

    def _has(self, each: bytes) -> bool:
        return each in self._users or each in self._unused

    def _make_room(self) -> bool:
        if len(self._users) + len(self._unused) < self.capacity:
            return True
        if not self._unused:
            return False
        removed, _ = self._unused.popitem(last=False)
        self.changes.append(Change(removed, is_stored=False))
        return True
