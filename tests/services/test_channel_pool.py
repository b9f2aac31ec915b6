"""Channels to replicas stay open for a while after their last use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc.aio
import pytest

from lab.client.rpc_channel import RpcChannel
from lab.transport import open_channel
from models.proto.ranking.v1 import ranking_pb2_grpc
from services.gateway.channel_pool import ChannelPool
from tests.parts import ControlPlane, Model, Relay, gateway_up, rank_request, update, use_case
from tests.waiting import eventually

WITHIN_S = 5.0


async def is_open(channel: RpcChannel) -> bool:
    try:
        await channel.ready(WITHIN_S)
    except grpc.aio.UsageError:  # of a channel that is closed
        return False
    return True


@asynccontextmanager
async def some(kept_s: float) -> AsyncIterator[ChannelPool]:
    channels = ChannelPool(kept_s=kept_s)
    try:
        yield channels
    finally:
        await channels.close()


async def test_a_channel_taken_again_soon_is_the_same_and_open(model: Model) -> None:
    async with some(kept_s=60) as channels:
        channel = channels.take((model.address,), "model")
        channels.give_back((model.address,), "model")
        assert channels.take((model.address,), "model") is channel
        assert await is_open(channel)


async def test_an_unused_channel_is_closed_and_the_next_one_is_new(model: Model) -> None:
    async with some(kept_s=0.05) as channels:
        channel = channels.take((model.address,), "model")
        channels.give_back((model.address,), "model")
        await eventually("it is closed", partial(is_open, channel), until=False.__eq__)
        again = channels.take((model.address,), "model")
        assert again is not channel
        assert await is_open(again)


async def test_a_channel_stays_open_while_it_has_a_user(model: Model) -> None:
    async with some(kept_s=0) as channels:
        channel = channels.take((model.address,), "model")
        assert channels.take((model.address,), "model") is channel
        channels.give_back((model.address,), "model")
        await asyncio.sleep(0)  # were it to be closed, it would be by now
        await asyncio.sleep(0)
        assert await is_open(channel)


async def test_another_peer_gets_another_channel(model: Model) -> None:
    async with some(kept_s=60) as channels:
        one = channels.take((model.address,), "model/ml-cluster-1")
        channels.give_back((model.address,), "model/ml-cluster-1")
        assert channels.take((model.address,), "model/ml-cluster-2") is not one


@pytest.mark.parametrize("settings", [{}, {"retries": {"attempts": 2}}], ids=["balanced by gRPC", "each by itself"])
async def test_a_model_that_moves_away_and_back_is_connected_to_once(
    control_plane: ControlPlane, model: Model, settings: dict[str, Any]
) -> None:
    async with (
        Model("rows.v1", replica="r2").up() as other,
        Relay(model.address).up() as way,
        gateway_up(control_plane.address) as gateway,
        open_channel(gateway) as channel,
    ):
        for revision, place in enumerate([way.address, other.address, way.address], start=1):
            rows = use_case("rows@v1", **settings)
            message = update(revision, use_cases={"HomepageRows": rows}, endpoints={"rows.v1": [place]})
            await control_plane.put_in_force(message, "gateway")
            request = rank_request()
            request.envelope.use_case, request.envelope.context.caller = "HomepageRows", "homepage"
            answer = await ranking_pb2_grpc.RankingStub(channel).Rank(request)
            assert answer.answered_by.replica == ("r2" if place == other.address else "r1")
        assert len(way.came) == 1
