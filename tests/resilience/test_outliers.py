"""Outlier detection: a replica that keeps failing gets no requests for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resilience.paths import GONE, TREATED, RequestPath, open_path


async def until_all_are_well(opened: RequestPath) -> None:
    """Sends requests until twenty in a row have been answered."""
    await opened.ask_until("all answer", lambda: opened.statuses == {"OK": 20}, 20, at_once=2, of_last_batch=True)


@pytest.mark.parametrize("topology", TREATED)
async def test_a_failing_replica_is_left_out(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology) as opened:
        failing, _ = opened.replicas
        failing.failure = GONE
        await opened.ask(60)
        assert opened.statuses == {"OK": 30, "UNAVAILABLE": 30}

        await opened.place(*opened.replicas, outliers={"errors": 3, "eject": "60s"})
        opened.forget()
        await until_all_are_well(opened)
        assert not failing.seen


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_the_configured_number_of_failures_in_a_row_ejects(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, outliers={"errors": 3, "eject": "60s"}) as opened:
        opened.replicas[0].failure = GONE
        await opened.ask(60)
        # Envoy's own workers hear of an ejection a moment after the failures.
        assert 3 <= opened.statuses["UNAVAILABLE"] <= 5


@pytest.mark.parametrize("topology", TREATED)
async def test_an_ejected_replica_returns_after_its_time(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, outliers={"errors": 3, "eject": "500ms"}) as opened:
        failing, _ = opened.replicas
        failing.failure = GONE
        await until_all_are_well(opened)
        failing.failure = None
        await opened.ask_until("it is asked again", lambda: bool(failing.seen), 10)
        assert set(opened.statuses) == {"OK"}


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_no_more_replicas_are_ejected_than_allowed(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, outliers={"errors": 2, "eject": "60s", "at_most": 50}) as opened:
        opened.script(failure=GONE)
        await opened.ask(40)
        assert opened.statuses == {"UNAVAILABLE": 40}
        opened.forget()
        await opened.ask(20)
        # One is asked and fails by itself; the other is out.
        assert sorted(len(each.seen) for each in opened.replicas) == [0, 20]
