"""Two methods of one key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import ANSWER, BY_HEADER, OTHER
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-method.v1"


async def _run(stage: Stage) -> Finding:
    for method, model in ((ANSWER, "a"), (OTHER, "b")):
        answer = await stage.call(_KEY, method=method)
        if answer.model != model:
            return failed(f"{method} leads to model {model}, but got {answer}; match :path, too")
    for method in (f"{ANSWER}s", ANSWER.lower()):
        if (answer := await stage.call(_KEY, method=method)).ok:
            return failed(f"{method} is none of the routes' methods, but got {answer}; compare :path exactly")
    return passed()


CHECK = Check(
    name="method-matching",
    claim="a route for one method matches that method alone",
    upstream="Gateway API GRPCExactMethodMatching; psm-interop url_map/path_matching_test",
    routes=tuple(
        Route(key=_KEY, method=method, backends=(Backend(model),)) for method, model in ((ANSWER, "a"), (OTHER, "b"))
    ),
    run=_run,
    only=BY_HEADER,
)
