import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from lab.history import SpoolWriter, read_spool
from lab.load.arrivals import WHOLE
from lab.load.mix import Mix, Payloads
from lab.load.open_loop import NEVER, Stop
from lab.load.plan import LoadPlan
from lab.plugins.locust.pacing import DueRequest
from lab.plugins.locust.sender import QueuedRequest, Sender
from lab.transport.precise_timer import PreciseTimer, new_precise_timer
from tests.load.builders import FakeClient, load_plan

MS = 1_000_000


@asynccontextmanager
async def sending(plan: LoadPlan) -> AsyncIterator[Sender]:
    """A sender at work, which has stopped when the block is left."""
    stop = Stop()
    with SpoolWriter(plan.spool) as spool:
        sender = Sender(plan, WHOLE, FakeClient(), spool, stop, lambda tell, outcome: tell(outcome))
        running = asyncio.create_task(sender.run())
        yield sender
        stop.ask("test")
        await running


def queued(plan: LoadPlan, sequence: int, due_ns: int, tell: Callable[[Any], object]) -> QueuedRequest:
    ask = Mix(plan).draw()
    return QueuedRequest(DueRequest(sequence, due_ns), ask, Payloads().get(ask.use_case.api, 400), tell)


async def test_requests_are_sent_in_the_order_in_which_they_are_due(tmp_path: Path) -> None:
    plan, outcomes = load_plan(tmp_path), asyncio.Queue[Any]()
    async with sending(plan) as sender:
        now = monotonic_ns()
        for sequence, after_ms in ((0, 60), (1, 20), (2, 40)):
            sender.take(queued(plan, sequence, now + after_ms * MS, outcomes.put_nowait))

        for _ in range(3):
            outcome, latency_ns = await asyncio.wait_for(outcomes.get(), 10)
            assert (outcome.status, latency_ns >= 0) == ("OK", True)

    records = read_spool(plan.spool)
    assert [record.sequence for record in records] == [1, 2, 0]
    assert all(record.sent_ns >= record.intended_ns for record in records)


async def test_a_cancelled_request_is_not_sent(tmp_path: Path) -> None:
    plan, outcomes = load_plan(tmp_path), asyncio.Queue[Any]()
    async with sending(plan) as sender:
        gone, stays = (queued(plan, number, monotonic_ns() + 20 * MS, outcomes.put_nowait) for number in range(2))
        for each in (gone, stays):
            sender.take(each)
        gone.cancelled = True
        await asyncio.wait_for(outcomes.get(), 10)

    assert [record.sequence for record in read_spool(plan.spool)] == [1]


async def test_without_a_due_request_the_timer_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []

    def watched(loop: Any, callback: Any) -> PreciseTimer:
        timer = new_precise_timer(loop, callback)
        set_timer = timer.set

        def set_at(at_ns: int) -> None:
            times.append(at_ns)
            set_timer(at_ns)

        monkeypatch.setattr(timer, "set", set_at)
        return timer

    monkeypatch.setattr("lab.load.open_loop.new_precise_timer", watched)
    plan, outcomes = load_plan(tmp_path), asyncio.Queue[Any]()
    due_ns = monotonic_ns() + 5 * MS
    async with sending(plan) as sender:
        sender.take(queued(plan, 0, due_ns, outcomes.put_nowait))
        await asyncio.wait_for(outcomes.get(), 10)

    assert [due_ns, NEVER] == [times[0], times[-1]]
