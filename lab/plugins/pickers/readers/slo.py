"""The second reader of ``slo``: the models' formulas again, by what was logged of each replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.pickers.readers._reader import PickReader
from lab.plugins.pickers.readers._sent import Sent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.plugins.pickers.readers._reader import Asked, Seen

_BLOCK, _ANSWER = 16, 16
_ROUNDING = 1e-5


class _Slo(Sent):
    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        objectives = [asked.get("slo_first_ms", 0), asked.get("slo_next_ms", 0)]
        predicted = {each["address"]: self._times(asked, each) for each in seen}
        late = {
            address
            for address, times in predicted.items()
            if any(limit and took > limit for took, limit in zip(times, objectives, strict=True))
        }
        in_time = [each for each in seen if each["address"] not in late]
        if not in_time or not any(objectives):
            return _about_least({address: first for address, (first, _) in predicted.items()})
        first, further = (1 / limit if limit else 0.0 for limit in objectives)
        used = {
            each["address"]: 0.8 * predicted[each["address"]][0] * first + 0.2 * predicted[each["address"]][1] * further
            for each in in_time
        }
        return _about_least({address: -share for address, share in used.items()})

    def _times(self, asked: Asked, each: Seen) -> tuple[float, float]:
        overhead, prefill, itl, slowest, slots = each["speed"]
        if slots == 0:
            return 0.0, 0.0
        there = max(each["in_flight"], each["waiting"] + each["running"])
        slower = 1.0
        if slots > 1:
            slower += (slowest - 1) * min(there, slots - 1) / (slots - 1)
        new = asked["tokens"] - _BLOCK * self.matched(asked, each["address"])
        own = (overhead + prefill * new) * slower
        further = itl * slower
        queued = there + 1 - slots
        if queued > 0:
            own += queued * (own + (_ANSWER - 1) * further) / slots
        return round(own, 6), round(further, 6)


def _about_least(values: Mapping[str, float]) -> set[str]:
    least = min(values.values())
    return {address for address, value in values.items() if value <= least + _ROUNDING}


READER = PickReader("slo", _Slo)
