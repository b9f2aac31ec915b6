"""Keys that resemble a known one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-exact.v1"
_ALIKE = (_KEY.upper(), _KEY.title(), _KEY[:-1], f"{_KEY}1", f"x{_KEY}", _KEY.replace(".", "-"), f"{_KEY}.v1")


async def _run(stage: Stage) -> Finding:
    if not (answer := await stage.call(_KEY)).ok:
        return failed(f"{_KEY} leads to model a, but got {answer}")
    for key in _ALIKE:
        if (answer := await stage.call(key)).ok:
            return failed(f"{key} is not {_KEY}, but got {answer}; compare exactly: no case folding, prefix or pattern")
    return passed(keys=len(_ALIKE))


CHECK = Check(
    name="exact-key",
    claim="a key that only resembles a known one leads to no model",
    upstream="Gateway API GRPCRouteHeaderMatching (type Exact)",
    routes=(route(_KEY, "a"),),
    run=_run,
)
