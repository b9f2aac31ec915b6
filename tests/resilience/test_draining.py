"""A draining replica finishes its requests; new ones go elsewhere at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.parts import rank_request
from tests.resilience.paths import TREATED, open_path

# With a setting the gateway keeps replicas apart, without one they share a channel.
SETTINGS: list[dict[str, Any]] = [{}, {"breaker": {"requests": 1000}, "outliers": {}}]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "treated"])
@pytest.mark.parametrize("topology", TREATED)
async def test_long_streams_survive_the_draining_of_their_replica(
    topology: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with open_path(tmp_path, topology, timeout="20s", **settings) as opened:
        going, staying = opened.replicas
        await opened.place(going, **settings, timeout="20s")
        await opened.follow(going)
        go_on = asyncio.Event()
        going.before_next_item = go_on.wait
        streams = [opened.client.stream("HomepageRows", rank_request(), {"user_id": "u1"}) for _ in range(5)]
        first = [await anext(each) for each in streams]
        assert {each.response.answered_by.replica for each in first} == {"r1"}

        # It has deregistered: clients are sent the other one.
        await opened.place(staying, **settings, timeout="20s")
        await opened.follow(staying)
        begun = len(going.seen)
        await opened.ask(20)
        assert (opened.statuses, len(going.seen)) == ({"OK": 20}, begun)

        go_on.set()
        rest = [[each async for each in stream] for stream in streams]
        assert [len(each) for each in rest] == [9] * 5


@pytest.mark.parametrize("topology", TREATED)
async def test_long_streams_survive_a_change_of_settings(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, timeout="20s") as opened:
        go_on = asyncio.Event()
        opened.script(before_next_item=go_on.wait)
        streams = [opened.client.stream("HomepageRows", rank_request(), {"user_id": "u1"}) for _ in range(5)]
        for each in streams:
            await anext(each)
        for errors in (3, 4):
            await opened.place(*opened.replicas, timeout="20s", outliers={"errors": errors})
            await opened.ask(10)
        assert opened.statuses == {"OK": 20}
        go_on.set()
        rest = [[each async for each in stream] for stream in streams]
        assert [len(each) for each in rest] == [9] * 5
