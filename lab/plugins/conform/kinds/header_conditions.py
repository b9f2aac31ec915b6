"""Routes with two and three headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import REGION, TIER
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-conditions.v1"
_EU, _US, _GOLD = (REGION, "eu"), (REGION, "us"), (TIER, "gold")
_EXPECTED = {(_EU, _GOLD): "a", (_GOLD, _EU): "a", (_EU,): "b", (_EU, (TIER, "tin")): "b", (_US, _GOLD): "c"}
_NOBODY = ((), (_GOLD,), ((REGION, "asia"), _GOLD))


async def _run(stage: Stage) -> Finding:
    for headers, model in _EXPECTED.items():
        answer = await stage.call(_KEY, metadata=headers)
        if answer.model != model:
            return failed(f"{_written(headers)} leads to model {model}, but got {answer}; all headers must match")
    for headers in _NOBODY:
        if (answer := await stage.call(_KEY, metadata=headers)).ok:
            return failed(f"{_written(headers)} matches no route, but got {answer}; all headers must match")
    return passed(requests=len(_EXPECTED) + len(_NOBODY))


def _written(headers: tuple[tuple[str, str], ...]) -> str:
    return " and ".join(f"{name}: {value}" for name, value in headers) or "the key alone"


CHECK = Check(
    name="header-conditions",
    claim="a route with several headers matches only requests that have them all",
    upstream="Gateway API GRPCRouteHeaderMatching",
    routes=(
        Route(key=_KEY, backends=(Backend("a"),), conditions=(_EU, _GOLD)),
        Route(key=_KEY, backends=(Backend("b"),), conditions=(_EU,)),
        Route(key=_KEY, backends=(Backend("c"),), conditions=(_US,)),
    ),
    run=_run,
)
