"""Hedging: a second attempt beside a slow first one; the first answer counts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.resilience.paths import GONE, RequestPath, open_path
from tests.waiting import eventually

BOTH = ["mesh", "gateway"]
HEDGED: dict[str, Any] = {"idempotent": True, "timeout": "20s"}
LONG_S = 10.0
SLOW_S = 2.0  # so that requests which a busy machine sends one after the other are all in flight together


class Slowness:
    """Makes the first request slow, unless it is cancelled."""

    def __init__(self, opened: RequestPath) -> None:
        self.seen = self.cancelled = 0
        opened.script(before_answer=self.wait)

    async def wait(self) -> None:
        self.seen += 1
        if self.seen == 1:
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


@pytest.mark.parametrize("topology", BOTH)
async def test_a_hedge_overtakes_a_slow_replica_and_cancels_its_work(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, hedge={"after": "100ms", "at_least": 1}, **HEDGED) as opened:
        slowness = Slowness(opened)
        began = time.monotonic()
        await opened.ask()
        assert 0.1 <= time.monotonic() - began < LONG_S
        assert (opened.statuses, opened.arrived) == ({"OK": 1}, 2)
        assert opened.answers[0].attempts == 2
        # The other one was asked.
        assert [len(each.seen) for each in opened.replicas] == [1, 1]
        assert await eventually("the first is cancelled", lambda: slowness.cancelled) == 1


@pytest.mark.parametrize("topology", BOTH)
async def test_without_hedging_a_slow_replica_is_waited_for(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, idempotent=True, timeout="500ms") as opened:
        Slowness(opened)
        await opened.ask()
        assert (opened.statuses, opened.arrived) == ({"DEADLINE_EXCEEDED": 1}, 1)


@pytest.mark.parametrize("topology", BOTH)
async def test_a_failed_first_attempt_is_hedged_at_once(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, hedge={"after": "10s", "at_least": 1}, **HEDGED) as opened:
        opened.replicas[0].failure = GONE
        began = time.monotonic()
        await opened.ask(4)
        assert opened.statuses == {"OK": 4}
        assert time.monotonic() - began < LONG_S


class Load:
    """Most requests in flight at the models when all of them are slow."""

    def __init__(self, opened: RequestPath) -> None:
        self.now = self.peak = 0
        opened.script(before_answer=self.serve)

    async def serve(self) -> None:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(SLOW_S)
        finally:
            self.now -= 1


@pytest.mark.parametrize("topology", BOTH)
async def test_with_every_replica_slow_hedges_add_a_fifth_at_most(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, hedge={"after": "150ms", "at_least": 100}, **HEDGED) as opened:
        load = Load(opened)
        await opened.ask(40, at_once=40)
        assert load.peak > 60
    async with open_path(tmp_path, topology, hedge={"after": "150ms", "budget": 20}, **HEDGED) as opened:
        load = Load(opened)
        await opened.ask(40, at_once=40)
        assert 40 < load.peak <= 48


async def test_proxyless_clients_do_not_hedge(tmp_path: Path) -> None:
    async with open_path(
        tmp_path, "proxyless", hedge={"after": "50ms", "at_least": 1}, idempotent=True, timeout="500ms"
    ) as opened:
        Slowness(opened)
        await opened.ask()
        assert (opened.statuses, opened.arrived) == ({"DEADLINE_EXCEEDED": 1}, 1)
