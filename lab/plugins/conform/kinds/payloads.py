"""Small and large messages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Figure, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-payload.v1"
_SIZES = {"0 KB": 0, "0.4 KB": 400, "64 KB": 64_000, "1.1 MB": 1_150_000, "10 MB": 10_000_000}


async def _run(stage: Stage) -> Finding:
    figures: dict[str, Figure] = {}
    for size, length in _SIZES.items():
        payload = os.urandom(length)
        answer = await stage.call(_KEY, payload, timeout=20.0)
        if not answer.ok or not answer.intact:
            what = answer if not answer.ok else "an answer to other bytes"
            return failed(f"a request of {size} got {what}; look at limits of body size", **figures)
        echoed = await stage.call(_KEY, payload, script=_echo, timeout=20.0)
        if echoed.body != payload:
            what = echoed if not echoed.ok else "other bytes"
            return failed(f"an answer of {size} came as {what}; look at limits of answers and buffers", **figures)
        figures[f"{size} ms"] = round(1e3 * (answer.done - answer.sent), 1)
    return passed(**figures)


async def _echo(received: Received) -> AsyncIterator[bytes]:
    """An answer as long as the request."""
    yield signed(received) + received.payload


CHECK = Check(
    name="payloads",
    claim="requests and answers of 0 to 10 MB pass unchanged",
    upstream="gRPC interop empty_unary, large_unary",
    routes=(route(_KEY, "a"),),
    run=_run,
)
