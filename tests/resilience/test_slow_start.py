"""A new replica's share grows."""

from __future__ import annotations

import time

import pytest

from tests.parts import Model

KEY = "rows.v1"
REQUESTS = 200
# Of a fair share, half of the requests, five standard deviations are 35.
HALF, DEVIATION = 100, 35
SLOW_START_S = 4.0


async def share_of_a_new_one(opened, **settings: object) -> int:
    """How many of the next requests go to a replica that has just come, when the first one's own start is over."""
    over = time.monotonic() + SLOW_START_S
    while time.monotonic() < over:
        await opened.ask(10)
    async with Model(KEY, replica="new").up() as new:
        await opened.place(opened.replicas[0], new, **settings)
        opened.forget()
        await opened.ask(REQUESTS, at_once=8)
        assert {"OK": REQUESTS} == opened.statuses
        return len(new.seen)


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_at_first_it_gets_a_small_part(topology: str, way) -> None:
    slowly = {"slow_start": f"{SLOW_START_S:g}s"}
    async with way(topology, replicas=1, **slowly) as opened:
        assert await share_of_a_new_one(opened, **slowly) < HALF - DEVIATION


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_without_it_a_new_one_gets_its_half_at_once(topology: str, way) -> None:
    async with way(topology, replicas=1) as opened:
        assert abs(await share_of_a_new_one(opened) - HALF) <= DEVIATION


async def test_a_grpc_client_that_routes_by_itself_knows_no_slow_start(way) -> None:
    slowly = {"slow_start": f"{SLOW_START_S:g}s"}
    async with way("proxyless", replicas=1, **slowly) as opened:
        assert abs(await share_of_a_new_one(opened, **slowly) - HALF) <= DEVIATION
