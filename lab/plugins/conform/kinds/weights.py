"""A split by weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.power import by_chance, requests_for
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-weights.v1"
# The weights of the upstream test.
_WEIGHTS = {"a": 70, "b": 30, "c": 0}
_REQUESTS = requests_for(_WEIGHTS["a"] / sum(_WEIGHTS.values()))


async def _run(stage: Stage) -> Finding:
    answers = await stage.calls(_KEY, _REQUESTS)
    if bad := [each for each in answers if not each.ok]:
        return failed(f"{len(bad)} of {_REQUESTS} requests failed; the first: {bad[0]}")
    seen, whole = Counter(each.model for each in answers), sum(_WEIGHTS.values())
    figures = {f"{model}_percent": round(100 * seen[model] / _REQUESTS, 1) for model in _WEIGHTS}
    for model, weight in _WEIGHTS.items():
        expected = weight / whole
        if abs(seen[model] / _REQUESTS - expected) > by_chance(expected, _REQUESTS):
            return failed(
                f"model {model} has weight {weight} of {whole}, but answered {seen[model]} of {_REQUESTS} requests "
                f"(at most {100 * by_chance(expected, _REQUESTS):.1f} percentage points off is chance)",
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
