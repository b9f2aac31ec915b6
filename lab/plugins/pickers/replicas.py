"""Replays the journal of one replica: its blocks, its queue, and what it refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Entry = Mapping[str, Any]

_HEX = 16
_BLOCK = 16


class Objection(NamedTuple):
    """What is wrong with an entry of a journal."""

    request_id: str
    message: str


def objections(name: str, entries: Sequence[Entry], settings: Mapping[str, Any]) -> Iterator[Objection]:
    """Yields what a replica cannot have done as its whole journal says.

    Args:
        name: of the replica.
        entries: of its journal, from the start of its process on.
        settings: of its model, see :class:`models.tokens.settings.TokenSettings`.
    """
    yield from _hits(name, entries, settings["blocks"])
    yield from _queue(name, entries, settings["max_num_seqs"], settings["queue_limit"])


def changes_of(entries: Sequence[Entry], capacity: int) -> list[tuple[str, bool]]:
    """Returns which blocks the cache has stored and removed, in its order, and of each whether it was stored."""
    cache = _Cache(capacity)
    for _, began, entry in sorted(_events(entries), key=lambda each: each[0]):
        if began:
            cache.begin(entry["arrived"], _blocks(entry), entry["prompt"])
        else:
            cache.end(entry["arrived"])
    return cache.changes


def _hits(name: str, entries: Sequence[Entry], capacity: int) -> Iterator[Objection]:
    """Yields claims of cached tokens that a second cache does not make."""
    cache = _Cache(capacity)
    for _, began, entry in sorted(_events(entries), key=lambda each: each[0]):
        key = entry["arrived"]
        if not began:
            cache.end(key)
            continue
        had = cache.begin(key, _blocks(entry), entry["prompt"])
        if had != entry["cached"]:
            message = f"{name} says that {entry['cached']} of {entry['prompt']} tokens were cached, and {had} were"
            yield Objection(entry["request_id"], message)


def _events(entries: Sequence[Entry]) -> Iterator[tuple[int, bool, Entry]]:
    for entry in entries:
        if entry["began"]:
            yield entry["began"], True, entry
            if entry["ended"]:
                yield entry["ended"], False, entry


class _Cache:
    """A second KV cache: each block has its users; those without are in the order in which they lost the last one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.changes: list[tuple[str, bool]] = []
        self._users: dict[str, set[int]] = {}
        self._idle: dict[str, None] = {}
        self._held: dict[int, list[str]] = {}

    def begin(self, key: int, blocks: Sequence[str], tokens: int) -> int:
        """Returns the tokens that were cached as a request began."""
        known = 0
        for block in blocks[: (tokens - 1) // _BLOCK]:
            if block not in self._users:
                break
            known += 1
        held = self._held[key] = []
        for block in blocks:
            if block not in self._users:
                if len(self._users) >= self._capacity and not self._evict():
                    break
                self._users[block] = set()
                self.changes.append((block, True))
            self._idle.pop(block, None)
            self._users[block].add(key)
            held.append(block)
        return known * _BLOCK

    def end(self, key: int) -> None:
        """Ends a request: of its blocks that nobody else uses, the last counts as idle for longest."""
        for block in reversed(self._held.pop(key, ())):
            self._users[block].discard(key)
            if not self._users[block]:
                self._idle[block] = None

    def _evict(self) -> bool:
        if not self._idle:
            return False
        oldest = next(iter(self._idle))  # in the order in which they became idle
        del self._idle[oldest], self._users[oldest]
        self.changes.append((oldest, False))
        return True


def _queue(name: str, entries: Sequence[Entry], most: int, limit: int) -> Iterator[Objection]:
    """Yields requests that were refused though there was room, that overtook others, or ran beside too many."""
    order = sorted(entries, key=lambda each: each["arrived"])
    latest = 0
    moves = sorted(
        (place, step)
        for each in order
        if each["began"]
        for place, step in ((each["began"], 1), *([(each["ended"], -1)] if each["ended"] else []))
    )
    running, at_once = 0, {}
    for place, step in moves:
        running += step
        at_once[place] = running
    inside: list[Entry] = []
    for each in order:
        now = each["arrived"]
        inside = [other for other in inside if not other["ended"] or other["ended"] > now]
        if each["shed"]:
            if len(inside) < most + limit:
                message = f"{name} refused it with {len(inside)} requests of the {most + limit} that it has room for"
                yield Objection(each["request_id"], message)
            continue
        inside.append(each)
        if each["began"]:
            if each["began"] < latest:
                yield Objection(each["request_id"], f"{name} served it before one that had come earlier")
            latest = max(latest, each["began"])
            if at_once[each["began"]] > most:
                message = f"{name} served {at_once[each['began']]} requests at once, and may serve {most}"
                yield Objection(each["request_id"], message)


def _blocks(entry: Entry) -> list[str]:
    text = entry["hashes"]
    return [text[start : start + _HEX] for start in range(0, len(text), _HEX)]
