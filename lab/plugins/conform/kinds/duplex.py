"""Messages in both directions in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import BY_HEADER
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received
    from lab.plugins.conform.stage import Stage

_KEY = "conform-duplex.v1"
_MESSAGES = 5


async def _pong(received: Received) -> AsyncIterator[bytes]:
    yield b"0"
    async for message in received.more:
        yield message


async def _run(stage: Stage) -> Finding:
    async with stage.channel() as channel:
        call, answered = stage.stream(_KEY, channel), 0
        try:
            await call.write(stage.request_id(_pong))
            for number in range(1, _MESSAGES + 1):
                if (message := await call.read()) is grpc.aio.EOF:
                    return failed(f"the stream ended after {answered} of {_MESSAGES} answers")
                answered += message == str(number - 1).encode()
                await call.write(str(number).encode())
            await call.done_writing()
            last = await call.read()
            if answered != _MESSAGES or last != str(_MESSAGES).encode() or await call.read() is not grpc.aio.EOF:
                return failed(f"{answered} of {_MESSAGES} answers were to the message before them, in order")
        except grpc.aio.AioRpcError as error:
            return failed(
                f"{answered} of {_MESSAGES} messages were answered, each of which the caller sends once it has the "
                f"answer before: {error.code().name} ({error.details()}); does the proxy buffer requests?",
                messages=answered,
            )
    return passed(messages=answered)


CHECK = Check(
    name="duplex",
    claim="a caller and a model talk in turn over one stream",
    upstream="gRPC interop ping_pong",
    routes=(route(_KEY, "a"),),
    run=_run,
    only=BY_HEADER,
)
