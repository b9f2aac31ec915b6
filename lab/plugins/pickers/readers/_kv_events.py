"""KV events as they were logged, read a second time: msgpack in either of vLLM's formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

STORED, REMOVED, CLEARED = "BlockStored", "BlockRemoved", "AllBlocksCleared"

Event = tuple[str, Sequence[str]]
"""Its kind, and its blocks, hexadecimal."""


def events_in(payload: str) -> Iterator[Event]:
    """Yields the events of a batch, which is hexadecimal."""
    import msgpack  # noqa: PLC0415 (an extra)

    _, events, *_ = msgpack.unpackb(bytes.fromhex(payload))
    for event in events:
        if hasattr(event, "get"):
            kind, blocks = event.get("type"), event.get("block_hashes")
        else:
            kind, blocks = [*event, []][:2]
        yield kind, [f"{block:016x}" for block in blocks or ()]
