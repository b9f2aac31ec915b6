"""The second readers of the lab's pickers. They share no code with the pickers; what one draws, it may have drawn."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from lab.plugins.pickers.readers._reader import Asked, PickReader, Reader, Seen
from lab.plugins.pickers.readers._sent import Sent, Tokens, blocks_of, lowest

_ROUNDING = 1e-9


class _PowerOfTwo(Reader):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        loads = [each["waiting"] + each["running"] for each in seen]
        if len(seen) == 1:
            return super().allowed(asked, seen)
        # Drawn beside any other, it must not have been the busier one.
        return {
            each["address"] for each, load in zip(seen, loads, strict=True) if load <= _second_greatest(load, loads)
        }


def _second_greatest(own: int, loads: Sequence[int]) -> int:
    others = [*loads]
    others.remove(own)
    return max(others)


class _QueueDepth(Reader):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        del asked
        short = min(each["waiting"] for each in seen)
        return lowest([each for each in seen if each["waiting"] == short], lambda each: each.get("tokens", 0))


class _Prefix(Sent):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        return lowest(seen, lambda each: -self.matched(asked, each["address"]))


class _UncachedTokens(Tokens):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        return lowest(seen, lambda each: self.busy(each["address"]) + self.new(asked, each["address"]))


class _PrefixAffinity(Tokens):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        number = len(blocks_of(asked))
        holds: list[Seen] = []
        lacks: list[Seen] = []
        for each in seen:
            enough = number > 0 and 10 * self.matched(asked, each["address"]) >= 8 * number
            (holds if enough else lacks).append(each)
        kept = holds or lacks
        if holds and lacks:
            most = min(self.busy(each["address"]) for each in lacks) + 2_048
            if all(self.busy(each["address"]) > most for each in holds):
                kept = [*seen]
        return lowest(kept, lambda each: self.busy(each["address"]))


class _Session(Reader):
    def __init__(self) -> None:
        self._home: dict[str, str] = {}

    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        if not asked["session"]:
            return lowest(seen, lambda each: each["in_flight"])
        home = self._home.get(asked["session"])
        if any(each["address"] == home for each in seen):
            return {str(home)}
        guests = Counter(address for name, address in self._home.items() if name != asked["session"])
        return lowest(seen, lambda each: guests[each["address"]])

    def took(self, asked: Asked, address: str) -> None:
        if asked["session"]:
            self._home[asked["session"]] = address


class _RingHash(Reader):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        mean = (sum(each["in_flight"] for each in seen) + 1) / len(seen)
        bound = math.ceil(mean * 5 / 4)
        own = _on_ring(asked["session"] or asked["request_id"])
        room = [each["address"] for each in seen if each["in_flight"] < bound]
        # The next point clockwise of any replica with room.
        points = [((_on_ring(f"{each}#{number}") - own) % 2**64, each) for each in room for number in range(100)]
        return {min(points)[1]}


class _Weighted(Sent):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        queues = [each["waiting"] for each in seen]
        low, high = min(queues), max(queues)
        blocks = max(len(blocks_of(asked)), 1)
        scores = {}
        for each in seen:
            queue = 1.0 if low == high else 1 - (each["waiting"] - low) / (high - low)
            scores[each["address"]] = 2 * queue + 2 * (1 - each["kv_used"])
            scores[each["address"]] += 3 * self.matched(asked, each["address"]) / blocks
        best = max(scores.values())
        return {address for address, score in scores.items() if score >= best - _ROUNDING}


class _Lora(Reader):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        wanted = asked["lora"]
        has = [each for each in seen if not wanted or wanted in each["loras"]]
        room = [each for each in seen if each["max_loras"] > len(each["loras"]) + len(each["waiting_loras"])]
        waits = [each for each in seen if wanted in each["waiting_loras"]]
        return lowest(has or room or waits or seen, lambda each: each["waiting"] + each["running"])


RANDOM = PickReader("random", Reader, reads_prompt=False)
LORA = PickReader("lora", _Lora)
POWER_OF_TWO = PickReader("power-of-two", _PowerOfTwo, reads_prompt=False)
QUEUE_DEPTH = PickReader("queue-depth", _QueueDepth, reads_prompt=False)
PREFIX = PickReader("prefix", _Prefix)
UNCACHED_TOKENS = PickReader("uncached-tokens", _UncachedTokens)
PREFIX_AFFINITY = PickReader("prefix-affinity", _PrefixAffinity)
SESSION = PickReader("session", _Session)
RING_HASH = PickReader("ring-hash", _RingHash)
WEIGHTED = PickReader("weighted", _Weighted)


def _on_ring(text: str) -> int:
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16)
