"""What a replica tells of the blocks of its KV cache: batches of events in msgpack, as vLLM publishes them.

A batch is ``[time in seconds, events, 0]``. An event is an array that begins with its kind, or from vLLM 0.24 on a map
whose ``type`` is its kind. The lab leaves ``token_ids`` empty: its blocks are known by their hashes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Any

from models.tokens.blocks import BLOCK, Change

KEPT = 10_000
"""Batches that are kept to be sent again, as vLLM's ``buffer_steps``."""

NONE, ARRAYS, MAPS = range(3)


class KvEvents:
    """The events of one replica, in batches that are numbered from 0.

    Args:
        form: of an event: :data:`ARRAYS` or :data:`MAPS`; :data:`NONE` for no events.
    """

    def __init__(self, form: int) -> None:
        self._form = form
        self._next = 0
        self._batches: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._changed = asyncio.Event()

    def publish(self, changes: Sequence[Change], hashes: Sequence[bytes], lora: str) -> None:
        """Publishes what changed as a request began.

        Args:
            changes: of the cache, in their order.
            hashes: of the request's blocks, in their order.
            lora: adapter of the request; empty for none.
        """
        if not changes or self._form == NONE:
            return
        import msgpack  # noqa: PLC0415 (an extra)

        batch = [time.time(), [self._event(each) for each in _events(changes, hashes, lora)], 0]  # noqa: TID251 (as vLLM sends it)
        self._batches.append((self._next, msgpack.packb(batch)))
        self._next += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _event(self, event: dict[str, Any]) -> Any:
        return event if self._form == MAPS else [*event.values()]

    async def follow(self, sequence: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yields each batch with its number, from this one on, or from the first one that is kept."""
        while True:
            first = self._next - len(self._batches)
            for number, payload in [*islice(self._batches, max(sequence - first, 0), None)]:
                yield number, payload
                sequence = number + 1
            if sequence >= self._next:
                await self._changed.wait()


def _events(changes: Sequence[Change], hashes: Sequence[bytes], lora: str) -> list[dict[str, Any]]:
    """The events, with their fields in the order that arrays have."""
    places, events, last = {each: place for place, each in enumerate(hashes)}, list[dict[str, Any]](), -1
    for each, is_stored in changes:
        number = int.from_bytes(each, "big")
        if not is_stored:
            events.append({"type": "BlockRemoved", "block_hashes": [number], "medium": "GPU"})
            last = -1
        elif last >= 0 and places[each] == last + 1:
            events[-1]["block_hashes"].append(number)
            last += 1
        else:
            last = places[each]
            parent = int.from_bytes(hashes[last - 1], "big") if last else None
            events.append(
                {
                    "type": "BlockStored",
                    "block_hashes": [number],
                    "parent_block_hash": parent,
                    "token_ids": [],
                    "block_size": BLOCK,
                    "lora_id": None,
                    "medium": "GPU",
                    "lora_name": lora or None,
                }
            )
    return events
