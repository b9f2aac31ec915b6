"""A model's statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received, Script
    from lab.plugins.conform.stage import Stage

_KEY = "conform-statuses.v1"
_CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
# The text of the upstream test: line ends, tabs, a % and characters of more than one byte.
_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608 100 %\t\n"


def _refusing(code: grpc.StatusCode, *, begun: bool) -> Script:
    async def refuse(received: Received) -> AsyncIterator[bytes]:
        if begun:
            await received.context.send_initial_metadata((("x-conform-begun", "yes"),))
        await received.context.abort(code, _MESSAGE)
        yield b""

    return refuse


async def _run(stage: Stage) -> Finding:
    for code in _CODES:
        for begun in (False, True):
            answer = await stage.call(_KEY, script=_refusing(code, begun=begun))
            if answer.code is not code or answer.details != _MESSAGE:
                how = "after" if begun else "without"
                return failed(
                    f"a model's {code.name} {how} initial metadata came as {answer}; pass grpc-status "
                    "and grpc-message on"
                )
    return passed(statuses=len(_CODES))


CHECK = Check(
    name="statuses",
    claim="each status of a model reaches the caller with its message",
    upstream="gRPC interop status_code_and_message, special_status_message",
    routes=(route(_KEY, "a"),),
    run=_run,
)
