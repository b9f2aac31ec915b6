"""Circuit breakers bound the requests in flight to a model version."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.resilience.paths import TREATED, open_path
from tests.waiting import eventually


@pytest.mark.parametrize("topology", TREATED)
async def test_requests_beyond_the_breaker_are_refused_at_once(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology) as opened:
        go_on = asyncio.Event()
        opened.script(before_answer=go_on.wait)

        async def flood(expected_to_arrive: int) -> None:
            go_on.clear()
            opened.forget()
            asking = asyncio.create_task(opened.ask(10, at_once=10))
            await eventually(
                "all have arrived or failed",
                lambda: opened.arrived + len(opened.errors) >= 10 and opened.arrived >= expected_to_arrive,
            )
            go_on.set()
            await asking

        await flood(10)
        assert opened.statuses == {"OK": 10}

        await opened.place(*opened.replicas, breaker={"requests": 3})
        await flood(3)
        assert opened.statuses == {"OK": 3, "RESOURCE_EXHAUSTED": 7}
        assert all("rows.v1" in error.message for error in opened.errors)


async def test_bounds_of_connections_reach_envoy(tmp_path: Path) -> None:
    async with open_path(tmp_path, "mesh", breaker={"connections": 7, "pending": 5}) as opened:
        await opened.ask(2)
        assert opened.envoy is not None
        said = opened.envoy.clusters()
        assert "rows.v1::default_priority::max_connections::7\n" in said
        assert "rows.v1::default_priority::max_pending_requests::5\n" in said
        assert "rows.v1::default_priority::max_requests::1000000\n" in said
