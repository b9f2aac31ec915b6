"""Which blocks each replica holds, by its KV events in either of vLLM's formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ExactIndex:
    """Blocks by replica. After a gap in the numbers of its batches, nothing is known of one until it begins again."""

    def __init__(self) -> None:
        self._blocks: dict[str, set[int]] = {}
        self._next: dict[str, int] = {}

    def match(self, address: str, hashes: Sequence[bytes]) -> int:
        """Number of first blocks that the replica holds; 0 if that is not known."""
        blocks = self._blocks.get(address, set())
        return next(
            (place for place, each in enumerate(hashes) if int.from_bytes(each, "big") not in blocks), len(hashes)
        )

    def apply(self, address: str, sequence: int, payload: bytes) -> None:
        """Follows a batch of the replica's events."""
        import msgpack  # noqa: PLC0415 (an extra)

        if sequence == 0:
            self._blocks[address] = set()
        elif sequence != self._next.get(address):
            self._blocks.pop(address, None)
        self._next[address] = sequence + 1
        for event in msgpack.unpackb(payload)[1]:
            kind, hashes = _read(event)
            if kind == "AllBlocksCleared":
                self._blocks[address] = set()
            elif (blocks := self._blocks.get(address)) is not None:
                if kind == "BlockStored":
                    blocks.update(hashes)
                elif kind == "BlockRemoved":
                    blocks.difference_update(hashes)


def _read(event: Any) -> tuple[str, Sequence[int]]:
    """Kind and blocks of an event, which is an array, or from vLLM 0.24 on a map."""
    if isinstance(event, dict):
        return event["type"], event.get("block_hashes", ())
    return event[0], event[1] if len(event) > 1 else ()
