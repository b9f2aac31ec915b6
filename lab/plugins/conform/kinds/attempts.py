"""How often a request reaches models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received, Script
    from lab.plugins.conform.stage import Stage

_KEY = "conform-attempts.v1"


def _ending(code: grpc.StatusCode, *, begun: bool) -> Script:
    async def end(received: Received) -> AsyncIterator[bytes]:
        if begun:
            await received.context.send_initial_metadata((("x-conform-begun", "yes"),))
        if code is not grpc.StatusCode.OK:
            await received.context.abort(code, "ended by the model")
        yield b""

    return end


async def _run(stage: Stage) -> Finding:
    for code in grpc.StatusCode:
        for begun in (False, True):
            script = _ending(code, begun=begun)
            sent_by = stage.request_id(script)
            await stage.call(_KEY, script=script, sent_by=sent_by)
            came = [each for model in stage.models.values() for each in model.received.get(sent_by, ())]
            if len(came) != 1:
                how = "after" if begun else "without"
                return failed(
                    f"a request that a model ended with {code.name} {how} initial metadata reached models {len(came)} "
                    "times: a request that has reached a model may have had an effect; send it again only where a "
                    "policy says so",
                    attempts=len(came),
                )
    return passed(attempts=1)


CHECK = Check(
    name="attempts",
    claim="a request reaches models once, whatever status it ends with",
    upstream="gRPC A6: no retries without a policy",
    routes=(route(_KEY, "a", "b"),),
    run=_run,
)
