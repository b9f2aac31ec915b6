"""One of two replicas dies, and comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY, _LEFT, _RIGHT = "conform-replicas.v1", "left", "right"
_REQUESTS, _QUIET = 40, 60
_WITHIN_S, _BACK_S = 3.0, 10.0


async def _run(stage: Stage) -> Finding:
    before = await stage.calls(_KEY, _REQUESTS)
    if {each.model for each in before} != {_LEFT, _RIGHT}:
        return failed(f"{_REQUESTS} requests must be spread over {_LEFT} and {_RIGHT}; the last got {before[-1]}")
    await stage.models[_LEFT].stop()
    died, failures, last, good, why = time.monotonic(), 0, 0.0, 0, ""
    while good < _QUIET and last < _WITHIN_S:
        answer = await stage.call(_KEY)
        good += answer.ok
        if not answer.ok:
            failures, last, good, why = failures + 1, answer.done - died, 0, str(answer)
    figures = {"failed": failures, "last_failure_ms": round(1e3 * last)}
    if good < _QUIET:
        return failed(
            f"{last:.1f} s after the death of one of two replicas a request still got {why}; take a replica that "
            "refuses connections out of rotation, or try the other one",
            **figures,
        )
    await stage.models[_LEFT].start()
    back = time.monotonic()
    answer = await stage.settled(_KEY, _LEFT, _BACK_S)
    after = f"{1e3 * (time.monotonic() - back):.0f}" if answer.model == _LEFT else f"over {1e3 * _BACK_S:.0f}"
    return passed(**figures, back_after_ms=after)


CHECK = Check(
    name="replica-death",
    claim="three seconds after a replica's death no request fails by it",
    upstream="psm-interop failover_test",
    routes=(route(_KEY, _LEFT, _RIGHT),),
    run=_run,
)
