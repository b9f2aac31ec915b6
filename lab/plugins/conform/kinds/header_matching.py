"""Each key has its own model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_MODELS = {f"conform-match.v{number}": model for number, model in enumerate(("a", "b", "c"), start=1)}
_EACH = 20


async def _run(stage: Stage) -> Finding:
    for key, model in _MODELS.items():
        for answer in await stage.calls(key, _EACH):
            if answer.model != model:
                return failed(f"{key} is routed to model {model}, but got {answer}; compare the whole value")
    return passed(requests=_EACH * len(_MODELS))


CHECK = Check(
    name="header-matching",
    claim="each routing key leads to its own model",
    upstream="Gateway API GRPCRouteHeaderMatching; psm-interop url_map/header_matching_test",
    routes=tuple(route(key, model) for key, model in _MODELS.items()),
    run=_run,
)
