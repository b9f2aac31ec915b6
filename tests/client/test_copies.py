from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lab.client.rpc_channel import Wire
from lab.client.shadow_sender import Copies
from models.apis import APIS
from tests.parts import Model, eventually, rank_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAYLOAD = rank_request().SerializeToString()
METHOD = APIS["ranking.v1"].unary


@asynccontextmanager
async def one_under_way(shadow: Model) -> AsyncIterator[tuple[Copies, asyncio.Event]]:
    """A copy that has come and is not answered until the event is set."""
    answer = asyncio.Event()
    shadow.before_answer = answer.wait
    async with shadow.up():
        wire, copies = Wire((shadow.address,)), Copies()
        copies.send(wire, METHOD, PAYLOAD, routing_key="rows.v2", request_id="r0")
        await eventually("the copy has come", lambda: shadow.seen)
        yield copies, answer
        answer.set()
        await wire.close()


async def test_whoever_goes_waits_for_the_copies_that_are_under_way() -> None:
    async with one_under_way(Model("rows.v2")) as (copies, answer):
        settling = asyncio.create_task(copies.settle(60.0))
        await asyncio.sleep(0)
        assert not settling.done()
        answer.set()
        await asyncio.wait_for(settling, 15)
    await copies.settle()  # there is nothing to wait for


async def test_whoever_goes_does_not_wait_for_ever() -> None:
    async with one_under_way(Model("rows.v2")) as (copies, answer):
        await asyncio.wait_for(copies.settle(0.01), 15)
        assert not answer.is_set()
