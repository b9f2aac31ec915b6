"""A split by weights."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-weights.v1"
# The weights of the upstream test.
_WEIGHTS = {"a": 70, "b": 30, "c": 0}
_SIGMAS = 4.5  # 1 of 150,000 runs exceeds it by chance
_SHIFT, _POWER_SIGMAS = 0.1, 2.5  # weights of 60 and 40 are noticed in 99 % of runs


def _requests() -> int:
    """Requests by which a shift of :data:`_SHIFT` from the first weight is further off than chance may be."""
    share = _WEIGHTS["a"] / sum(_WEIGHTS.values())
    by_chance = _SIGMAS * math.sqrt(share * (1 - share))
    off = _POWER_SIGMAS * math.sqrt((share - _SHIFT) * (1 - share + _SHIFT))
    return math.ceil(((by_chance + off) / _SHIFT) ** 2)


REQUESTS = _requests()


def bound(share: float) -> float:
    """How far the share of a model may be off its weight's by chance, 0 to 1."""
    return _SIGMAS * math.sqrt(share * (1 - share) / REQUESTS)


async def _run(stage: Stage) -> Finding:
    answers = await stage.calls(_KEY, REQUESTS)
    if bad := [each for each in answers if not each.ok]:
        return failed(f"{len(bad)} of {REQUESTS} requests failed; the first: {bad[0]}")
    seen, whole = Counter(each.model for each in answers), sum(_WEIGHTS.values())
    figures = {f"{model}_percent": round(100 * seen[model] / REQUESTS, 1) for model in _WEIGHTS}
    for model, weight in _WEIGHTS.items():
        expected = weight / whole
        if abs(seen[model] / REQUESTS - expected) > bound(expected):
            return failed(
                f"model {model} has weight {weight} of {whole}, but answered {seen[model]} of {REQUESTS} requests "
                f"(at most {100 * bound(expected):.1f} percentage points off is chance)",
                **figures,
            )
    return passed(**figures)


CHECK = Check(
    name="weights",
    claim="models answer in proportion to their weights, and one of weight 0 never",
    upstream="Gateway API GRPCRouteWeight",
    routes=(Route(key=_KEY, backends=tuple(Backend(*each) for each in _WEIGHTS.items())),),
    run=_run,
)
