"""Whether the KV events that came to a gateway are what the cache of their replica did, by its replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.plugins.pickers.readers._kv_events import STORED, events_in
from lab.plugins.pickers.replicas import changes_of

if TYPE_CHECKING:
    from lab.plugins.pickers.replicas import Entry


def strayed(picks: Sequence[Entry], address: str, entries: Sequence[Entry], capacity: int) -> Iterator[str]:
    """Yields the requests before whose pick an event came that is not what the replica's cache did at its place.

    Args:
        picks: of one gateway, with the events that came before each.
        address: of the replica.
        entries: of its journal, from the start of its process on.
        capacity: of its cache, blocks.
    """
    heard: dict[int, dict[int, list[tuple[str, bool]]]] = {}
    asked: dict[tuple[int, int], str] = {}
    for pick in picks:
        for where, number, payload in pick["kv_events"]:
            if where == address:
                changes = [(block, kind == STORED) for kind, blocks in events_in(payload) for block in blocks]
                heard.setdefault(pick["group"], {})[number] = changes
                asked[pick["group"], number] = pick["asked"]["request_id"]
    if not heard:
        return
    right = changes_of(entries, capacity)
    for group, batches in heard.items():
        place = 0
        for number in range(len(batches)):
            if number not in batches:
                break  # one was lost: the rest has no known place
            if right[place : place + len(batches[number])] != batches[number]:
                yield asked[group, number]
                break
            place += len(batches[number])
