"""Copies for a shadow, by size."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Figure, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.table import Backend, Route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-shadow.v1"
# Either side of 1 MiB, above which Envoy drops copies by default, and far above.
_SIZES = {"0.4 KB": (400, 40), "0.9 MB": (900_000, 10), "1.1 MB": (1_150_000, 10), "10 MB": (10_000_000, 3)}
_ARRIVES_WITHIN_S = 5.0


async def _run(stage: Stage) -> Finding:
    figures: dict[str, Figure] = {}
    wrong = ""
    for size, (length, number) in _SIZES.items():
        arrived, problem = await _copies(stage, os.urandom(length), number)
        figures[f"{size} copies"] = f"{arrived} of {number}"
        if problem or arrived < number:
            wrong = wrong or problem or f"{number - arrived} of {number} copies of {size} did not reach the shadow"
    wrong = wrong or await _waits(stage)
    if wrong:
        return failed(f"{wrong}; look at limits of buffers, and at where copies are sent from", **figures)
    return passed(**figures)


async def _copies(stage: Stage, payload: bytes, number: int) -> tuple[int, str]:
    """How many whole copies reached the shadow, and what else was wrong."""
    sent = [stage.request_id() for _ in range(number)]
    calls = (stage.call(_KEY, payload, sent_by=each) for each in sent)
    for answer in await stage.each(calls, at_once=2):
        if answer.model != "a" or not answer.intact:
            return 0, f"a request with a shadow got {answer}"
    shadow = stage.models["shadow"].received
    deadline = time.monotonic() + _ARRIVES_WITHIN_S
    while not all(each in shadow for each in sent) and time.monotonic() < deadline:  # noqa: ASYNC110 (the proxy copies)
        await asyncio.sleep(0.02)
    copies = [copy for each in sent for copy in shadow.get(each, ())]
    if len(copies) > number:
        return number, f"the shadow got {len(copies)} copies of {number} requests"
    if any(copy.payload != payload for copy in copies):
        return 0, "a copy differs from its request"
    return len(copies), ""


async def _waits(stage: Stage) -> str:
    """What is wrong with an answer whose shadow is stuck; empty if nothing."""
    answered = asyncio.Event()

    async def stuck(received: Received) -> AsyncIterator[bytes]:
        if received.model == "shadow":
            await answered.wait()
        yield signed(received)

    answer = await stage.call(_KEY, script=stuck)
    answered.set()
    return "" if answer.model == "a" else f"while the shadow is stuck, a request got {answer}"


CHECK = Check(
    name="shadow",
    claim="a shadow gets each request once and whole, and delays no answer",
    upstream="Gateway API GRPCRouteRequestMirror",
    routes=(Route(key=_KEY, backends=(Backend("a"),), shadow="shadow"),),
    run=_run,
)
