"""A gateway stays small while its control plane comes and goes, and while either is frozen."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import grpc.aio
import psutil
import pytest

from lab.lab import Lab
from lab.waiting import consistently, eventually
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from services import rules
from services.gateway.channel_pool import ChannelPool
from tests import waiting
from tests.labs import ask, known, states
from tests.parts import gateway_up, update, use_case

WITHIN = timedelta(seconds=60)
MB = 2**20
WARM_UP, RECONNECTS = 50, 300
ROUNDS = 12
ADDRESSES = [f"127.0.0.1:{number}" for number in range(1, 5)]
"""Ports at which nothing listens."""


class Fleeting(rules_pb2_grpc.RulesServicer):
    """A control plane that ends each stream after the first update, or after none, and has other replicas each time."""

    def __init__(self) -> None:
        self.streams = 0

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[rules_pb2.RulesUpdate]:  # noqa: N802
        del context
        await anext(request_iterator)
        self.streams += 1
        if self.streams % 3:
            here = [ADDRESSES[self.streams % 4], ADDRESSES[self.streams // 4 % 4]]
            message = update(self.streams, use_cases={"A": use_case("rows@v1")}, endpoints={"rows.v1": here})
            message.sequence = 1
            yield message
            await anext(request_iterator)


async def test_hundreds_of_reconnects_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_RECONNECT_PAUSE_S", 0.0)
    monkeypatch.setattr("services.gateway.pool._CONNECT_TIMEOUT_S", 0.01)
    pools: list[ChannelPool] = []

    def pool_of_short_memory() -> ChannelPool:
        pools.append(ChannelPool(kept_s=0.1))
        return pools[-1]

    monkeypatch.setattr("services.gateway.pool.ChannelPool", pool_of_short_memory)
    servicer, process = Fleeting(), psutil.Process()
    server = grpc.aio.server()
    rules_pb2_grpc.add_RulesServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with gateway_up(f"127.0.0.1:{port}"):

        async def used_after(streams: int) -> tuple[float, int, int]:
            await waiting.eventually("it reconnects", lambda: servicer.streams >= streams, within=WITHIN)
            gc.collect()
            return process.memory_info().rss / MB, process.num_fds(), len(asyncio.all_tasks())

        size, files, tasks = await used_after(WARM_UP)
        size_after, files_after, tasks_after = await used_after(WARM_UP + RECONNECTS)

        assert size_after - size < 20
        assert files_after - files < 20
        assert tasks_after - tasks < 20
        # One channel in use, and those of the last tenth of a second.
        [pool] = pools
        await waiting.eventually("few channels are open", lambda: len(pool._pooled), until=lambda number: number <= 6)
    await server.stop(0)


def paused(lab: Lab, units: Sequence[str]) -> bool:
    """Whether all of these units are."""
    return {states(lab)[unit] for unit in units} == {"paused"}


def test_freezing_gateway_and_control_plane_in_turn_leaves_the_gateway_small(small_lab: Lab) -> None:
    gateway = psutil.Process(next(unit.pid for unit in small_lab.status().units if unit.name == "gateway-1"))
    size, threads = gateway.memory_info().rss / MB, gateway.num_threads()

    for number in range(ROUNDS):
        frozen = [["gateway-1"], ["control-plane"], ["gateway-1", "control-plane"]][number % 3]
        if number % 3 == 1:
            small_lab.units.kill("control-plane")
            small_lab.units.start("control-plane")
        for unit in frozen:
            small_lab.units.pause(unit)
        # The gateway gives a frozen control plane up after 2 s.
        during = timedelta(seconds=2 if number % 2 else 3)
        consistently("they are frozen", partial(paused, small_lab, frozen), during=during)
        for unit in reversed(frozen) if number % 4 else frozen:
            small_lab.units.resume(unit)

    assert ask(small_lab, "gateway").version == "v1"
    eventually(
        "the gateway is connected",
        small_lab.control_plane_status,
        within=WITHIN,
        until=lambda status: status is not None and "gateway-1" in {node.node for node in status.nodes},
    )
    revision = small_lab.routes.publish(small_lab.folder.parent.parent / "routes.yaml")
    assert known(small_lab).revision == revision
    assert gateway.memory_info().rss / MB - size < 30
    assert gateway.num_threads() - threads < 8
