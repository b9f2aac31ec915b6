"""Requests wait in bands of priority while every replica is saturated; the one whose turn it is goes to the idlest.

A replica is saturated with as many requests as it has slots, by the signal or by what the gateway has in flight there.
The highest band goes first. Inside a band flows share by deficit round robin (Shreedhar and Varghese, 1996), by tokens
of prompts: of two flows that both wait, none gets more than a quantum and two largest prompts ahead of the other.
With the queue full, the lowest band loses the newest request of the flow of which most wait. Requests of negative
priority, the sheddable ones of the Gateway API Inference Extension, wait for less time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from lab.pickers import NO_WAITING, Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import Stateless, least

MOST_WAITING = 64
"""Requests of one routing key that wait at one gateway."""

WAIT_S, SHEDDABLE_WAIT_S = 2.0, 0.5

QUANTUM = 512
"""Tokens that a flow may send more at each of its turns; also what a request counts whose prompt is not read."""

LEAST_TOKENS, MOST_TOKENS = 64, 16 * QUANTUM
"""What a shorter or longer prompt counts: none is for nothing, and each has its turn within 16 rounds."""

SLOTS = 100
"""Of a replica that reports none, as in llm-d-router's ``concurrency-detector``; until it is first read, it has one."""


class _Waiting(NamedTuple):
    priority: int
    flow: str
    tokens: int


class _Band:
    """The flows of one priority, each with its requests in their order; the first flow's turn is next."""

    def __init__(self) -> None:
        self.flows: OrderedDict[str, OrderedDict[int, int]] = OrderedDict()
        self._deficits: dict[str, int] = {}
        self._has_quantum = False

    def add(self, number: int, flow: str, tokens: int) -> None:
        self._deficits.setdefault(flow, 0)
        self.flows.setdefault(flow, OrderedDict())[number] = tokens

    def remove(self, number: int, flow: str) -> None:
        waiting = self.flows[flow]
        del waiting[number]
        if not waiting:
            if next(iter(self.flows)) == flow:
                self._has_quantum = False
            del self.flows[flow], self._deficits[flow]

    def next(self) -> int:
        while True:
            flow, waiting = next(iter(self.flows.items()))
            if not self._has_quantum:
                self._deficits[flow] += QUANTUM
                self._has_quantum = True
            number, tokens = next(iter(waiting.items()))
            if tokens <= self._deficits[flow]:
                self._deficits[flow] -= tokens
                self.remove(number, flow)
                return number
            self.flows.move_to_end(flow)
            self._has_quantum = False

    def newest_of_most(self) -> int:
        return next(reversed(max(self.flows.values(), key=len)))


class _PriorityBands(Stateless):
    def __init__(self) -> None:
        self._bands: dict[int, _Band] = {}
        self._waiting: dict[int, _Waiting] = {}

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        del asked
        return least(seen, lambda each: _load(each) - _slots(each))

    def has_room(self, seen: Sequence[Seen]) -> bool:
        return any(_load(each) < _slots(each) for each in seen)

    def limit_s(self, asked: Asked) -> float:
        return WAIT_S if asked.priority >= 0 else SHEDDABLE_WAIT_S

    def join(self, number: int, asked: Asked) -> int:
        its = _Waiting(asked.priority, asked.flow, min(max(asked.tokens or QUANTUM, LEAST_TOKENS), MOST_TOKENS))
        self._waiting[number] = its
        self._bands.setdefault(its.priority, _Band()).add(number, its.flow, its.tokens)
        if len(self._waiting) <= MOST_WAITING:
            return 0
        shed = self._bands[min(self._bands)].newest_of_most()
        self.leave(shed)
        return shed

    def next(self) -> int:
        number = self._bands[max(self._bands)].next()
        self._forget(number)
        return number

    def leave(self, number: int) -> None:
        its = self._waiting[number]
        self._bands[its.priority].remove(number, its.flow)
        self._forget(number)

    def _forget(self, number: int) -> None:
        priority = self._waiting.pop(number).priority
        if not self._bands[priority].flows:
            del self._bands[priority]


def _load(each: Seen) -> int:
    return max(each.load, each.in_flight)


def _slots(each: Seen) -> int:
    return each.speed.slots or (SLOTS if each.age_ms >= 0 else 1)


PICKER = Picker(
    name="priority-bands",
    line="the replica with the most free slots; requests wait for one, by priority and turns of tenants, or are shed",
    places=at_gateway_only(_PriorityBands, NO_WAITING, queues=True),
    skewed=True,
)
