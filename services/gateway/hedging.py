"""A second attempt beside a slow first one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import grpc.aio

if TYPE_CHECKING:
    Attempt = Coroutine[Any, Any, Any]


async def first_answer(
    first: Attempt, second: Callable[[grpc.aio.AioRpcError | None], Attempt | None], after_s: float
) -> Any:
    """The first good answer of two attempts; the other one is cancelled.

    Args:
        first: begins at once.
        second: makes the second attempt, given the first one's failure (None if it is slow); returns None if there is
            none to make.
        after_s: wait for the first attempt alone, seconds.

    Raises:
        grpc.aio.AioRpcError: the last failure; every attempt has failed.
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
    """The RPC error of an attempt that is done; None if it succeeded. Other errors are raised."""
    error = task.exception()
    if error is not None and not isinstance(error, grpc.aio.AioRpcError):
        raise error
    return error
