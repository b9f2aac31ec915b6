"""An answer of several messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.stage import TIMEOUT_S, Stage
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received

_KEY = "conform-streaming.v1"
_MESSAGES, _LONG = 5, 100_000


async def _run(stage: Stage) -> Finding:
    got = asyncio.Semaphore(0)

    async def one_by_one(_received: Received) -> AsyncIterator[bytes]:
        for number in range(_MESSAGES):
            yield number.to_bytes()
            await got.acquire()  # the caller has this message

    async with stage.channel() as channel:
        call, arrived = stage.stream(_KEY, channel), 0
        try:
            await call.write(stage.request_id(one_by_one))
            await call.done_writing()
            async for _ in call:
                arrived += 1
                got.release()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return failed(
                    f"{arrived} of {_MESSAGES} messages arrived in {TIMEOUT_S:g} s, each of which the model sends once "
                    "the caller has the one before: the proxy buffers answers; switch that off",
                    messages=arrived,
                )
            return failed(f"a stream ended with {error.code().name} ({error.details()}) after {arrived} messages")
    if arrived != _MESSAGES:
        return failed(f"{arrived} of {_MESSAGES} messages arrived")
    return passed(messages=arrived)


CHECK = Check(
    name="streaming",
    claim="each message of a streamed answer arrives before the model sends the next",
    upstream="gRPC interop server_streaming",
    routes=(route(_KEY, "a"),),
    run=_run,
)
