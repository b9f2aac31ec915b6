"""Metadata after an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-trailers.v1"
_SENT: tuple[tuple[str, str | bytes], ...] = (("x-conform-load", "0.75"), ("grpc-status-details-bin", b"\x08\x05\xff"))


async def _answers(received: Received) -> AsyncIterator[bytes]:
    received.context.set_trailing_metadata(_SENT)
    yield signed(received)


async def _refuses(received: Received) -> AsyncIterator[bytes]:
    await received.context.abort(grpc.StatusCode.FAILED_PRECONDITION, "by the model", _SENT)
    yield b""


async def _run(stage: Stage) -> Finding:
    for what, script, code in (
        ("an answer", _answers, grpc.StatusCode.OK),
        ("a refusal", _refuses, grpc.StatusCode.FAILED_PRECONDITION),
    ):
        answer = await stage.call(_KEY, script=script)
        if answer.code is not code:
            return failed(f"{what} with trailers must end as {code.name}, but got {answer}; pass trailers on")
        if lost := [name for name, value in _SENT if (name, value) not in answer.trailing]:
            return failed(f"{what} lost {', '.join(lost)}; pass all trailers on, not the status alone")
    return passed(names=len(_SENT))


CHECK = Check(
    name="trailers",
    claim="trailers of answers and of refusals pass unchanged",
    upstream="gRPC interop custom_metadata",
    routes=(route(_KEY, "a"),),
    run=_run,
)
