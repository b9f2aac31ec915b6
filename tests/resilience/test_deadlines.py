"""The use case's timeout reaches the model as remaining time; a late answer is a missed deadline in every topology."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.topologies import TOPOLOGIES
from tests.resilience.paths import GONE, open_path

RULED = sorted(each.name for each in TOPOLOGIES.values() if each.capabilities.follows_rules and not each.aided_by)
RETRYING = [name for name in RULED if TOPOLOGIES[name].capabilities.retries]


@pytest.mark.parametrize("topology", RULED)
async def test_the_model_sees_the_remaining_time(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, timeout="5s") as opened:
        await opened.ask(2)
        assert all(left is not None and 4 < left <= 5.01 for each in opened.replicas for left in each.deadlines_s)


@pytest.mark.parametrize("topology", RETRYING)
async def test_each_further_attempt_has_less_time(topology: str, tmp_path: Path) -> None:
    settings = {"timeout": "5s", "retries": {"attempts": 3, "backoff": "1ms", "at_least": 100}}
    async with open_path(tmp_path, topology, replicas=1, **settings) as opened:
        (replica,) = opened.replicas
        replica.failure = GONE
        replica.before_answer = lambda: asyncio.sleep(0.3)
        await opened.ask()
        first, second, third = (left or 0.0 for left in replica.deadlines_s)
        assert third > 0.0
        assert first >= second + 0.28 >= third + 0.56


@pytest.mark.parametrize("topology", RULED)
async def test_a_late_answer_is_a_missed_deadline(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, timeout="100ms") as opened:
        opened.script(before_answer=asyncio.Event().wait)
        await opened.ask(3)
        assert opened.statuses == {"DEADLINE_EXCEEDED": 3}
        assert all("no answer within 100 ms" in error.message for error in opened.errors)


@pytest.mark.parametrize("topology", RETRYING)
async def test_with_retries_a_late_answer_is_a_missed_deadline(topology: str, tmp_path: Path) -> None:
    retries = {"attempts": 5, "backoff": "1ms", "at_least": 100}
    async with open_path(tmp_path, topology, timeout="400ms", retries=retries) as opened:
        opened.script(failure=GONE, before_answer=lambda: asyncio.sleep(0.15))
        await opened.ask()
        assert opened.statuses == {"DEADLINE_EXCEEDED": 1}


@pytest.mark.parametrize("topology", ["mesh", "gateway-header"])
async def test_many_timeouts_do_not_close_the_connection(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, timeout="1100ms") as opened:
        opened.script(before_answer=asyncio.Event().wait)
        envoy = opened.envoy
        assert envoy is not None
        await opened.ask_until(
            "1,200 resets", lambda: envoy.stats("http2").get("http2.rx_reset", 0) > 1_200, 700, at_once=700
        )
        assert opened.statuses == {"DEADLINE_EXCEEDED": opened.sent}
        assert envoy.stats("http.requests")["http.requests.downstream_cx_total"] == 1
