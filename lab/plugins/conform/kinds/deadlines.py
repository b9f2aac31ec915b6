"""A deadline reaches the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-deadlines.v1"
_DEADLINE_S, _LATE_S, _STUCK_S = 0.5, 1.5, 20.0
_ROUNDED_S = 0.02  # gRPC rounds timeouts up on the wire


async def _run(stage: Stage) -> Finding:
    began, ended, known = asyncio.Event(), asyncio.Event(), 0.0

    async def stuck(received: Received) -> AsyncIterator[bytes]:
        nonlocal known
        known = received.context.time_remaining() or 0.0
        began.set()
        try:
            await asyncio.sleep(_STUCK_S)
            yield signed(received)
        finally:
            ended.set()

    sent = time.monotonic()
    answer = await stage.call(_KEY, script=stuck, timeout=_DEADLINE_S)
    if answer.code is not grpc.StatusCode.DEADLINE_EXCEEDED or not began.is_set():
        return failed(f"a request to a model that is stuck must be DEADLINE_EXCEEDED, but got {answer}")
    try:
        async with asyncio.timeout(_LATE_S):
            await ended.wait()
    except TimeoutError:
        return failed(
            f"{_LATE_S:g} s after a deadline of {_DEADLINE_S:g} s the model still works on the request: pass "
            "grpc-timeout on, or reset the stream to the model"
        )
    if known > _DEADLINE_S + _ROUNDED_S:
        return failed(f"the model was given {known:.2f} s of {_DEADLINE_S:g} s; lengthen no grpc-timeout")
    figures = {"model_stopped_after_ms": round(1e3 * (time.monotonic() - sent))}
    return passed(grpc_timeout="passed on" if known else "not passed on", **figures)


CHECK = Check(
    name="deadlines",
    claim="a model stops working on a request whose deadline has passed",
    upstream="gRPC interop timeout_on_sleeping_server; psm-interop url_map/timeout_test",
    routes=(route(_KEY, "a"),),
    run=_run,
)
