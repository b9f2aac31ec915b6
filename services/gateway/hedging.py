"""A second attempt beside a slow first one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Attempt = Coroutine[Any, Any, Any]


async def first_answer(
    first: Attempt, second: Callable[[grpc.aio.AioRpcError | None], Attempt | None], after_s: float
) -> Any:
    """The first good answer of two attempts; the other one is cancelled.

    Args:
        first: begins at once.
        second: called with the first one's failure, or with None if it has not answered in time; None again if there
            is to be no second one.
        after_s: how long the first is waited for alone, seconds.

    Raises:
        grpc.aio.AioRpcError: both have failed, or the first and there was to be no second; this is the last failure.
    """
    running = {asyncio.create_task(first)}
    try:
        done, _ = await asyncio.wait(running, timeout=after_s)
        failure = _failure(next(iter(done))) if done else None
        if (not done or failure is not None) and (other := second(failure)) is not None:
            running.add(asyncio.create_task(other))
        while True:
            done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            good = next((each for each in done if _failure(each) is None), None)
            if good is not None or not waiting:
                return (good or done.pop()).result()
            running = waiting
    finally:
        for each in running:
            each.cancel()


def _failure(task: asyncio.Task[Any]) -> grpc.aio.AioRpcError | None:
    """Why an attempt that is done has failed, None if it has not; raises what is no RPC's failure."""
    error = task.exception()
    if error is not None and not isinstance(error, grpc.aio.AioRpcError):
        raise error
    return error
