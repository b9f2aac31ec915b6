"""All models of a key are down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY, _MODEL = "conform-gone.v1", "gone"


async def _run(stage: Stage) -> Finding:
    if not (answer := await stage.call(_KEY)).ok:
        return failed(f"{_KEY} leads to model {_MODEL}, but got {answer}")
    await stage.models[_MODEL].stop()
    answer = await stage.until(_KEY, lambda answer: not answer.ok)
    answer = await stage.call(_KEY)
    ms = round(1e3 * (answer.done - answer.sent), 1)
    if answer.ok:
        return failed(f"all models of {_KEY} are down, but got {answer}; send it to no other model")
    if answer.code is not grpc.StatusCode.UNAVAILABLE or not answer.by_grpc:
        return failed(
            f"all models of {_KEY} are down: must be UNAVAILABLE by grpc-status, but got {answer}; "
            "answer HTTP 200 with grpc-status 14 instead of an error of HTTP, whose message callers do not see",
            ms=ms,
        )
    return passed(status=answer.code.name, ms=ms)


CHECK = Check(
    name="no-replica",
    claim="a key whose models are all down is UNAVAILABLE by grpc-status",
    routes=(route(_KEY, _MODEL),),
    run=_run,
)
