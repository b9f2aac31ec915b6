"""Retries, and their budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.parts import rank_request
from tests.resilience.paths import GONE, TREATED, open_path
from tests.waiting import eventually

BUDGETED = ["mesh", "gateway"]
# Enough for one retry at any time, whatever is in flight.
ALWAYS: dict[str, Any] = {"at_least": 100}


def slow(*numbers: int, of: list[int]) -> Callable[[], Awaitable[None]]:
    """Makes the requests with these numbers take longer than any timeout."""

    async def wait() -> None:
        of.append(len(of) + 1)
        if of[-1] in numbers:
            await asyncio.sleep(30)

    return wait


@pytest.mark.parametrize("topology", TREATED)
async def test_a_retry_goes_to_another_replica(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology) as without:
        for replica in without.replicas:  # ready is a path with one connection
            await without.reach(replica)
        without.forget()
        without.replicas[0].failure = GONE
        await without.ask(20)
        assert without.statuses == {"OK": 10, "UNAVAILABLE": 10}
        assert without.arrived == 20

        await without.place(*without.replicas, retries={"attempts": 2, **ALWAYS})
        without.forget()
        await without.ask(20)
        assert without.statuses == {"OK": 20}
        assert 20 < without.arrived <= 40


@pytest.mark.parametrize("topology", TREATED)
async def test_unlisted_statuses_are_not_retried(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, retries={"on": ["resource-exhausted"], **ALWAYS}) as opened:
        opened.script(failure=GONE)
        await opened.ask(5)
        assert (opened.statuses, opened.arrived) == ({"UNAVAILABLE": 5}, 5)
        opened.forget()
        opened.script(failure=(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"))
        await opened.ask(5)
        assert (opened.statuses, opened.arrived) == ({"RESOURCE_EXHAUSTED": 5}, 10)


@pytest.mark.parametrize("topology", TREATED)
async def test_no_retry_is_made_of_a_request_whose_caller_has_none_left(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, retries={"attempts": 3, **ALWAYS}) as opened:
        opened.script(failure=GONE)
        for left, retries in (0, 0), (2, 2), (9, 2), (None, 2):
            opened.forget()
            await opened.ask(4, retries_left=left)
            assert (opened.statuses, opened.arrived) == ({"UNAVAILABLE": 4}, 4 * (1 + retries)), left


@pytest.mark.parametrize("topology", BUDGETED)
async def test_no_hedge_is_made_of_a_request_whose_caller_has_none_left(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, idempotent=True, hedge={"after": "20ms", **ALWAYS}) as opened:
        opened.script(before_answer=lambda: asyncio.sleep(0.2))
        await opened.ask(4, retries_left=0)
        assert (opened.statuses, opened.arrived) == ({"OK": 4}, 4)
        await opened.ask(4, retries_left=1)
        assert opened.arrived == 12


@pytest.mark.parametrize("topology", BUDGETED)
async def test_with_every_replica_failing_retries_add_a_fifth_at_most(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, retries={"attempts": 3, "budget": 20}) as opened:
        opened.script(failure=GONE, before_answer=lambda: asyncio.sleep(0.01))
        await opened.ask(600, at_once=40)
        assert opened.statuses == {"UNAVAILABLE": 600}
        assert 1.02 < opened.arrived / opened.sent <= 1.2
        # What each caller is told is what the models have seen.
        assert opened.arrived == sum(error.attempts for error in opened.errors)

        await opened.place(*opened.replicas, retries={"attempts": 3, **ALWAYS})
        opened.forget()
        await opened.ask(100, at_once=40)
        assert opened.arrived == 300 == sum(error.attempts for error in opened.errors)


async def test_proxyless_clients_have_no_retry_budget(tmp_path: Path) -> None:
    async with open_path(tmp_path, "proxyless", retries={"attempts": 3, "budget": 20}) as opened:
        opened.script(failure=GONE)
        await opened.ask(20, at_once=10)
        assert (opened.statuses, opened.arrived) == ({"UNAVAILABLE": 20}, 60)
        # Nor does it say how often it has tried.
        assert {error.attempts for error in opened.errors} == {1}


@pytest.mark.parametrize("topology", BUDGETED)
async def test_an_attempt_over_its_time_limit_is_retried(topology: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeout": "20s", "retries": {"attempts": 3, "per_try": "200ms", **ALWAYS}}
    async with open_path(tmp_path, topology, **settings) as opened:
        seen: list[int] = []
        opened.script(before_answer=slow(1, 2, of=seen))
        await opened.ask()
        assert (opened.statuses, opened.arrived) == ({"OK": 1}, 3)
        assert opened.answers[0].attempts == 3
        # Each attempt's own time is what the model is told.
        assert all(left is not None and left <= 0.21 for each in opened.replicas for left in each.deadlines_s)

        seen.clear()
        opened.script(before_answer=slow(1, 2, 3, of=seen))
        await opened.ask()
        assert [each.code.name for each in opened.errors] == ["DEADLINE_EXCEEDED"]


async def test_proxyless_clients_have_no_per_try_timeout(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"timeout": "500ms", "retries": {"attempts": 3, "per_try": "100ms", **ALWAYS}}
    async with open_path(tmp_path, "proxyless", **settings) as opened:
        opened.script(before_answer=slow(1, of=[]))
        await opened.ask()
        assert (opened.statuses, opened.arrived) == ({"DEADLINE_EXCEEDED": 1}, 1)


@pytest.mark.parametrize("topology", BUDGETED)
async def test_a_stream_is_retried_only_before_its_first_item(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, retries={"attempts": 2, **ALWAYS}) as opened:
        opened.replicas[0].failure = GONE
        for _ in range(4):
            items = [each async for each in opened.client.stream("HomepageRows", rank_request(), {"user_id": "u1"})]
            assert len(items) == 10
        assert 4 < opened.arrived <= 8


@pytest.mark.parametrize("topology", BUDGETED)
@pytest.mark.parametrize(
    "settings", [{"retries": {"per_try": "100ms", **ALWAYS}}, {"hedge": {"after": "100ms", **ALWAYS}}]
)
async def test_streams_have_no_per_try_timeout_and_no_hedge(
    topology: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with open_path(tmp_path, topology, idempotent=True, **settings) as opened:
        opened.script(before_answer=lambda: asyncio.sleep(0.3), before_next_item=lambda: asyncio.sleep(0.03))
        items = [each async for each in opened.client.stream("HomepageRows", rank_request(), {"user_id": "u1"})]
        assert (len(items), opened.arrived) == (10, 1)


@pytest.mark.parametrize("topology", TREATED)
async def test_a_shadow_copy_is_never_retried(topology: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"shadow": {"use": "rows@v2", "percent": 100}, "retries": {"attempts": 3, **ALWAYS}}
    async with open_path(tmp_path, topology, **settings) as opened:

        def copies() -> list[str]:
            found = [
                headers for each in opened.replicas for _, headers in each.seen if headers.get("x-shadow") == "copy"
            ]
            return [headers["x-request-id"] for headers in found]

        for replica in opened.replicas:
            replica.failures["rows.v2"] = GONE
        await opened.ask(10)
        await eventually("all copies have arrived", lambda: len(set(copies())) == 10)
        # Whatever would be sent again, after a pause of 75 ms at most, is so by then.
        over = time.monotonic() + 0.5
        while time.monotonic() < over:
            await opened.ask()
        await eventually("all copies have arrived", lambda: len(set(copies())) == opened.sent)
        assert len(copies()) == opened.sent
