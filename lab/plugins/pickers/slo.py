"""A replica that is predicted to meet the use case's SLO, of several the one with the least to spare.

The prediction is by the formulas by which token models take their time, see :mod:`models.tokens.settings`, with one
more request than the replica reports, or than the gateway has in flight there. Those before it take as long as it does.
The least headroom leaves idle replicas to requests that need more. As that of llm-d-router's ``latency-scorer``, which
learns its predictions, headroom is 0.8 of the first token's and 0.2 of the further tokens'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import NO_PROMPT, Stateless, least
from lab.plugins.pickers._prefix_index import PrefixIndex
from models.apis import ANSWER_TOKENS
from models.tokens.blocks import BLOCK

FIRST, NEXT = 0.8, 0.2
_NS = 6  # decimals of a millisecond: sums of the same parts in another order are the same


class _Times(NamedTuple):
    first_ms: float
    next_ms: float

    def meet(self, asked: Asked) -> bool:
        """Whether they are within the objectives that the request has."""
        bounds = zip(self, (asked.slo_first_ms, asked.slo_next_ms), strict=True)
        return all(took <= bound for took, bound in bounds if bound)

    def headroom(self, asked: Asked) -> float:
        """Share of the objectives that is left, weighted."""
        parts = (FIRST, self.first_ms, asked.slo_first_ms), (NEXT, self.next_ms, asked.slo_next_ms)
        return round(sum(weight * (1 - took / bound) for weight, took, bound in parts if bound), _NS)


class _Slo(Stateless):
    def __init__(self) -> None:
        self._index = PrefixIndex()

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        times = {each.address: self._predict(asked, each) for each in seen}
        has_slo = asked.slo_first_ms or asked.slo_next_ms
        if has_slo and (meeting := [each for each in seen if times[each.address].meet(asked)]):
            taken = meeting[least(meeting, lambda each: times[each.address].headroom(asked))]
        else:
            taken = seen[least(seen, lambda each: times[each.address].first_ms)]
        self._index.add(taken.address, asked.hashes)
        return seen.index(taken)

    def _predict(self, asked: Asked, each: Seen) -> _Times:
        its, requests = each.speed, 1 + max(each.load, each.in_flight)
        if not its.slots:
            return _Times(0.0, 0.0)
        share = (min(requests, its.slots) - 1) / max(its.slots - 1, 1)
        factor = 1 + (its.load_factor - 1) * share
        uncached = asked.tokens - BLOCK * self._index.match(each.address, asked.hashes)
        first_ms, next_ms = factor * (its.overhead_ms + uncached * its.prefill_ms), factor * its.itl_ms
        before = max(0, requests - its.slots) / its.slots
        wait_ms = before * (first_ms + (ANSWER_TOKENS - 1) * next_ms)
        return _Times(round(wait_ms + first_ms, _NS), round(next_ms, _NS))


PICKER = Picker(
    name="slo",
    line="a replica predicted to meet the use case's SLO, with the least headroom; if none, the soonest first token",
    places=at_gateway_only(_Slo, NO_PROMPT, needs_reports=True),
    reads_prompt=True,
    skewed=True,
)
