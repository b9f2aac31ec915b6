from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from lab.transport import answer_of, items_of


async def _never() -> str:
    await asyncio.Event().wait()
    return "too late"


async def _one_and_never_another() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def test_an_answer_and_items_are_handed_on() -> None:
    async def soon() -> str:
        return "answer"

    async def some() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert await answer_of(asyncio.ensure_future(soon()), 1) == "answer"
    assert [each async for each in items_of(some(), 1)] == [1, 2]


async def test_a_call_that_grpc_does_not_end_is_ended() -> None:
    call = asyncio.ensure_future(_never())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer_of(call, 0.01)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert call.cancelled()


async def test_who_cancels_the_wait_is_not_called_late() -> None:
    call = asyncio.ensure_future(_never())
    waiting = asyncio.ensure_future(answer_of(call, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert call.cancelled()


async def test_a_stream_that_grpc_does_not_end_is_ended() -> None:
    items = items_of(_one_and_never_another(), 0.01)
    assert await anext(items) == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(items)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
