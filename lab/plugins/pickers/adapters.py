"""Replays which adapters (LoRA) a replica had loaded, by its journal, and what a signal could say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lab.plugins.pickers.replicas import Entry, Objection

_EARLY_NS = 1_000_000
"""By how much the clocks of the journal and of the replica's timers may be apart."""

_BEGINS, _GETS_SLOT, _ENDS = range(3)


def adapter_objections(name: str, entries: Sequence[Entry], settings: Mapping[str, Any]) -> Iterator[Objection]:
    """Yields what a replica cannot have done with its adapters as its whole journal says.

    It holds ``max_loras`` of them; one is loaded only if it is not there, in the place of the one that has been unused
    for longest; no request waits for a slot while there is one, or is served before its adapter is loaded.
    """
    if not (room := settings.get("max_loras", 0)):
        return
    slots = _Slots(room, settings["lora_load_ms"] * settings["time_scale"] * 1_000_000)
    for _, kind, entry in sorted(_events(entries), key=lambda each: each[0]):
        for message in (slots.begins, slots.gets_slot, slots.ends)[kind](entry):
            yield Objection(entry["request_id"], f"{name} {message}")
    for entry in entries:
        if entry["lora"] and entry["loaded_ns"] and not entry["slot"]:
            yield Objection(entry["request_id"], f"{name} served it without {entry['lora']}")


class _Slots:
    """Adapters with their users; those without are in the order in which they lost the last one."""

    def __init__(self, room: int, load_ns: float) -> None:
        self._room, self._load_ns = room, load_ns
        self._users: defaultdict[str, set[int]] = defaultdict(set)
        self._idle: dict[str, None] = {}
        self._since_ns: dict[str, int] = {}

    def begins(self, entry: Entry) -> Iterator[str]:
        """Whether a request that begins must have a slot at once, and has none."""
        there = entry["lora"] in self._users or len(self._users) < self._room or self._idle
        if there and entry["slot"] != entry["began"] + 1:
            yield f"let it wait for {entry['lora']}, with that or room for it there"

    def gets_slot(self, entry: Entry) -> Iterator[str]:
        """Whether what was loaded and evicted then is wrong, and whether it was used too early."""
        wanted = entry["lora"]
        if entry["loads"] == (wanted in self._users):
            yield f"loaded {wanted}, and had it" if entry["loads"] else f"did not load {wanted}, and had it not"
        if entry["loads"]:
            full = len(self._users) >= self._room
            oldest = next(iter(self._idle), "every slot is in use") if full else ""
            if entry["evicted"] != oldest:
                yield f"evicted {entry['evicted'] or 'nothing'} for {wanted}, and not {oldest or 'nothing'}"
            self._users.pop(entry["evicted"], None)
            self._idle.pop(entry["evicted"], None)
            self._since_ns[wanted] = entry["slot_ns"]
        self._idle.pop(wanted, None)
        self._users[wanted].add(entry["arrived"])
        if entry["loaded_ns"] and entry["loaded_ns"] + _EARLY_NS < self._since_ns.get(wanted, 0) + self._load_ns:
            yield f"served it before {wanted} was loaded"

    def ends(self, entry: Entry) -> Iterator[str]:
        """Ends a use."""
        users = self._users[entry["lora"]]
        users.discard(entry["arrived"])
        if not users:
            self._idle[entry["lora"]] = None
        yield from ()


def _events(entries: Sequence[Entry]) -> Iterator[tuple[int, int, Entry]]:
    for entry in entries:
        if entry["lora"] and entry["began"]:
            yield entry["began"], _BEGINS, entry
            if entry["slot"]:
                yield entry["slot"], _GETS_SLOT, entry
                if entry["ended"]:
                    yield entry["ended"], _ENDS, entry


Times = Mapping[str, Sequence[tuple[int, int]]]
"""When each adapter was at a replica: from and until, Unix nanoseconds; until 0 for what is there still."""


def times_of(entries: Sequence[Entry]) -> Times:
    """Returns when each adapter was there, by a whole journal."""
    times: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for entry in sorted(entries, key=lambda each: each.get("slot", 0)):
        if entry.get("loads"):
            if (gone := entry["evicted"]) and times[gone]:
                times[gone][-1] = times[gone][-1][0], entry["slot_ns"]
            times[entry["lora"]].append((entry["slot_ns"], 0))
    return times


def misread(loras: Collection[str], times: Times, from_ns: int, until_ns: int) -> str:
    """Returns an adapter that a signal read in this time must not have shown or not have lacked, in words; or empty."""
    for each in loras:
        if not any(there <= until_ns and (not gone or gone >= from_ns) for there, gone in times.get(each, ())):
            return f"{each}, which was not there"
    for each, its in times.items():
        if each not in loras and any(there < from_ns and (not gone or gone > until_ns) for there, gone in its):
            return f"no {each}, which was there"
    return ""
