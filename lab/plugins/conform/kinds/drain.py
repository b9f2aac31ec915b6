"""The proxy ends gracefully."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.stage import TIMEOUT_S, Stage
from lab.plugins.conform.table import route

_KEY = "conform-drain.v1"


async def _run(stage: Stage) -> Finding:
    assert stage.control is not None  # noqa: S101 (a check that drains runs with such a control only)
    assert stage.control.drain is not None  # noqa: S101 (likewise)
    began, drained = asyncio.Event(), asyncio.Event()

    async def until_drained(received: Received) -> AsyncIterator[bytes]:
        began.set()
        await drained.wait()
        yield signed(received)

    idle = await stage.target.connect()
    ended = asyncio.create_task(idle.end())
    in_flight = asyncio.create_task(stage.call(_KEY, script=until_drained, timeout=2 * TIMEOUT_S))
    draining = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await began.wait()
        draining = asyncio.create_task(_drain(stage))
        async with asyncio.timeout(TIMEOUT_S):
            announced = await asyncio.shield(ended)
    except TimeoutError:
        if draining is None:
            return failed(f"{_KEY} leads to model a, but it got no request within {TIMEOUT_S:g} s")
        return failed(
            f"{TIMEOUT_S:g} s after it was asked to end, the proxy has neither sent GOAWAY nor closed "
            "an idle connection"
        )
    finally:
        drained.set()
        answer = await in_flight
        idle.close()
        await ended
        if draining is not None:
            await draining
    if not announced:
        return failed(
            "an idle connection was closed without GOAWAY, so requests on their way would be lost; send it first"
        )
    if not answer.ok:
        return failed(f"a request in flight got {answer}; let it end before its connection does")
    return passed(goaway="sent", in_flight="answered")


async def _drain(stage: Stage) -> None:
    assert stage.control is not None  # noqa: S101 (as above)
    assert stage.control.drain is not None  # noqa: S101 (as above)
    await stage.control.drain()


CHECK = Check(
    name="drain",
    claim="a proxy that ends says GOAWAY on its connections, and answers requests in flight",
    routes=(route(_KEY, "a"),),
    run=_run,
    drains=True,
)
