import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.client.rpc_channel import RpcChannel
from lab.client.shadow_sender import ShadowSender
from models.apis import APIS
from tests.parts import Model, rank_request
from tests.waiting import eventually

PAYLOAD = rank_request().SerializeToString()
METHOD = APIS["ranking.v1"].unary


@asynccontextmanager
async def one_under_way(shadow: Model) -> AsyncIterator[tuple[ShadowSender, asyncio.Event]]:
    """A copy that has arrived and is not answered until the event is set."""
    answer = asyncio.Event()
    shadow.before_answer = answer.wait
    async with shadow.up():
        channel, shadows = RpcChannel((shadow.address,)), ShadowSender()
        shadows.send(channel, METHOD, PAYLOAD, routing_key="rows.v2", request_id="r0")
        await eventually("the copy has come", lambda: shadow.seen)
        yield shadows, answer
        answer.set()
        await channel.close()


async def test_settling_waits_for_copies_in_flight() -> None:
    async with one_under_way(Model("rows.v2")) as (shadows, answer):
        settling = asyncio.create_task(shadows.settle(60.0))
        await asyncio.sleep(0)
        assert not settling.done()
        answer.set()
        await asyncio.wait_for(settling, 15)
    await shadows.settle()  # there is nothing to wait for


async def test_settling_ends_after_its_time() -> None:
    async with one_under_way(Model("rows.v2")) as (shadows, answer):
        await asyncio.wait_for(shadows.settle(0.01), 15)
        assert not answer.is_set()
