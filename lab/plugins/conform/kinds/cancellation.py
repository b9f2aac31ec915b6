"""A caller gives a request up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc.aio

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.stage import TIMEOUT_S, Stage
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received

_KEY = "conform-cancellation.v1"
_LATE_S, _STUCK_S = 1.5, 20.0


async def _run(stage: Stage) -> Finding:
    figures = {}
    for after_first in (False, True):
        cancelled_at, problem = await _cancelled(stage, after_first=after_first)
        when = "after the first message" if after_first else "before any answer"
        if problem:
            return failed(f"cancelled {when}: {problem}")
        figures["after_first_ms" if after_first else "before_any_ms"] = round(1e3 * cancelled_at, 1)
    return passed(**figures)


async def _cancelled(stage: Stage, *, after_first: bool) -> tuple[float, str]:
    """Seconds until the model noticed, and what was wrong."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def stuck(_received: Received) -> AsyncIterator[bytes]:
        began.set()
        try:
            if after_first:
                yield b"first"
            await asyncio.sleep(_STUCK_S)
        finally:
            ended.set()

    async with stage.channel() as channel:
        call = stage.stream(_KEY, channel, timeout=None)  # a deadline alone would end the request
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await call.write(stage.request_id(stuck))
                await call.done_writing()
                await began.wait()
                if after_first:
                    await call.read()
        except TimeoutError:
            return 0.0, f"the model did not get the request within {TIMEOUT_S:g} s"
        except grpc.aio.AioRpcError as error:
            return 0.0, f"the request got {error.code().name} ({error.details()})"
        at = time.monotonic()
        call.cancel()
        try:
            async with asyncio.timeout(_LATE_S):
                await ended.wait()
        except TimeoutError:
            return 0.0, (
                f"the model still works {_LATE_S:g} s later; reset the stream to the model when the caller's is reset"
            )
        return time.monotonic() - at, ""


CHECK = Check(
    name="cancellation",
    claim="a model stops working on a request that its caller has cancelled",
    upstream="gRPC interop cancel_after_begin, cancel_after_first_response",
    routes=(route(_KEY, "a"),),
    run=_run,
)
