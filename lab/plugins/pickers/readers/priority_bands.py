"""The second reader of ``priority-bands``: who had to wait, whose turn it was, and who could be shed.

It knows no deficits: of any two flows that both wait, it bounds how far one gets ahead of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab.plugins.pickers.readers._reader import Asked, PickReader, Reader, Seen, Wait
from lab.plugins.pickers.readers._sent import lowest

_ROOM = 64
_LIMITS_MS = {True: 500, False: 2_000}  # of those of negative priority, and of others
_CLOCK_MS = 20
_BUSY_MS = 2_000  # for which a busy machine may keep a gateway from looking at its clock
_QUANTUM, _LEAST_TOKENS, _MOST_TOKENS = 512, 64, 8_192
_DEFAULT_SLOTS = 100


class _PriorityBands(Reader):
    judges_waits = True

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}
        self._ahead: dict[tuple[int, str, str], tuple[int, int, int]] = {}
        self._largest = 0

    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        del asked
        return lowest(seen, lambda each: -_free(each))

    def waits(self, wait: Wait, seen: Sequence[Seen]) -> Iterator[str]:
        if room := _with_room(seen):
            yield f"it had to wait though {room} had room"
        priority, flow = _place(wait)
        if not self._of(priority, flow):
            for other in self._flows(priority):
                self._ahead[_pair(priority, flow, other)] = (0, 0, 0)
        self._waits[wait["number"]] = wait
        self._largest = max(self._largest, _tokens(wait))

    def sends(self, pick: Mapping[str, Any], seen: Sequence[Seen]) -> Iterator[str]:
        if not pick["asked"]["request_id"]:
            return  # a shadow's copy never waits
        # A retry may be sent where there is no room: its own replica has some, and is avoided.
        if not _with_room(seen) and not pick["tried"]:
            yield "it was sent though no replica had room"
        wait = self._waits.get(pick["queued"])
        if wait is not None:
            yield from self._turn(wait, pick["at_ns"])
        elif pick["queued"]:
            yield "it was sent from the queue, in which it was not"
        elif self._waits:
            yield f"it was sent before {len(self._waits)} that waited"

    def _turn(self, wait: Wait, at_ns: int) -> Iterator[str]:
        """Takes a request out whose turn it was."""
        priority, flow = _place(wait)
        waited_ms = (at_ns - wait["at_ns"]) / 1_000_000
        if waited_ms > _LIMITS_MS[priority < 0] + _BUSY_MS:
            yield f"it had to wait for {waited_ms:.0f} ms, and was to be shed after {_LIMITS_MS[priority < 0]}"
        if higher := sum(_place(each)[0] > priority for each in self._waits.values()):
            yield f"it was sent before {higher} of a higher priority than its {priority}"
        if min(self._of(priority, flow)) != wait["number"]:
            yield f"it was sent before an earlier one of {flow}"
        bound = _QUANTUM + 2 * self._largest
        for other in self._flows(priority) - {flow}:
            pair = _pair(priority, flow, other)
            now, low, high = self._ahead[pair]
            now += _tokens(wait) if pair[1] == flow else -_tokens(wait)
            low, high = min(low, now), max(high, now)
            self._ahead[pair] = now, low, high
            if high - low > bound:
                yield f"{high - low} tokens of {flow} were sent beside those of {other} that waited; {bound} may be"
        del self._waits[wait["number"]]

    def ends(self, wait: Wait, seen: Sequence[Seen]) -> Iterator[str]:
        outcome, (priority, flow) = wait["outcome"], _place(wait)
        if outcome == "queue-full":
            yield from self._sheds_rightly(priority, flow, wait["number"])
        elif outcome == "waited-too-long":
            waited_ms, limit_ms = (wait["ended_ns"] - wait["at_ns"]) / 1_000_000, _LIMITS_MS[priority < 0]
            if waited_ms < limit_ms - _CLOCK_MS:
                yield f"it was shed for waiting too long after {waited_ms:.0f} ms of {limit_ms}"
        elif outcome == "no-attempt":
            yield from self._turn(wait, wait["ended_ns"])
            return
        elif outcome != "left":
            yield f"it was shed, and the gateway's log does not say why, but {outcome!r}"
        if outcome != "left" and (room := _with_room(seen)):
            yield f"it was shed though {room} had room"
        self._waits.pop(wait["number"], None)

    def _sheds_rightly(self, priority: int, flow: str, number: int) -> Iterator[str]:
        if len(self._waits) <= _ROOM:
            yield f"it was shed for a full queue, in which {len(self._waits) - 1} waited, with room for {_ROOM}"
        lowest_priority = min(_place(each)[0] for each in self._waits.values())
        if priority != lowest_priority:
            yield f"it was shed before one of priority {lowest_priority}, which is lower than its {priority}"
        waiting = Counter(name for its, name in map(_place, self._waits.values()) if its == priority)
        if waiting[flow] < max(waiting.values()):
            yield f"it was shed with {waiting[flow]} of {flow} waiting, and {max(waiting.values())} of another"
        if number != max(self._of(priority, flow)):
            yield f"it was shed before a later one of {flow}"

    def _of(self, priority: int, flow: str) -> list[int]:
        return [number for number, each in self._waits.items() if _place(each) == (priority, flow)]

    def _flows(self, priority: int) -> set[str]:
        return {name for its, name in map(_place, self._waits.values()) if its == priority}


def _place(wait: Wait) -> tuple[int, str]:
    return wait["asked"]["priority"], wait["asked"]["flow"]


def _pair(priority: int, flow: str, other: str) -> tuple[int, str, str]:
    return priority, min(flow, other), max(flow, other)


def _tokens(wait: Wait) -> int:
    tokens: int = wait["asked"]["tokens"]
    return max(_LEAST_TOKENS, min(tokens, _MOST_TOKENS)) if tokens else _QUANTUM


def _free(each: Seen) -> int:
    unknown = 1 if each["age_ms"] < 0 else _DEFAULT_SLOTS
    slots: int = each["speed"][-1] or unknown
    load: int = max(each["waiting"] + each["running"], each["in_flight"])
    return slots - load


def _with_room(seen: Sequence[Seen]) -> str:
    return " and ".join(each["address"] for each in seen if _free(each) > 0)


READER = PickReader("priority-bands", _PriorityBands, reads_prompt=False)
