"""Slow start: a new replica's share grows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.parts import Model
from tests.resilience.paths import RequestPath, open_path

KEY = "rows.v1"
REQUESTS = 200
# Of a fair share, half of the requests, five standard deviations are 35.
HALF, DEVIATION = 100, 35
SLOW_START_S = 4.0


async def share_of_a_new_one(opened: RequestPath, **settings: object) -> int:
    """Number of the next requests that a new replica gets, once the first one's slow start is over."""
    over = time.monotonic() + SLOW_START_S
    while time.monotonic() < over:
        await opened.ask(10)
    async with Model(KEY, replica="new").up() as new:
        await opened.place(opened.replicas[0], new, **settings)
        opened.forget()
        await opened.ask(REQUESTS, at_once=8)
        assert opened.statuses == {"OK": REQUESTS}
        return len(new.seen)


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_a_new_replica_begins_with_a_small_share(topology: str, tmp_path: Path) -> None:
    slowly = {"slow_start": f"{SLOW_START_S:g}s"}
    async with open_path(tmp_path, topology, replicas=1, **slowly) as opened:
        assert await share_of_a_new_one(opened, **slowly) < HALF - DEVIATION


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_without_slow_start_a_new_replica_gets_its_full_share(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, replicas=1) as opened:
        assert abs(await share_of_a_new_one(opened) - HALF) <= DEVIATION


async def test_proxyless_clients_have_no_slow_start(tmp_path: Path) -> None:
    slowly = {"slow_start": f"{SLOW_START_S:g}s"}
    async with open_path(tmp_path, "proxyless", replicas=1, **slowly) as opened:
        assert abs(await share_of_a_new_one(opened, **slowly) - HALF) <= DEVIATION
