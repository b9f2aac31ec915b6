from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic_ns
from typing import Any

import pytest

from lab.history import SpoolWriter, read_spool
from lab.load.arrivals import WHOLE
from lab.load.locust.pacing import DueRequest
from lab.load.locust.sender import QueuedRequest, Sender
from lab.load.mix import Mix, Payloads
from lab.load.open_loop import NEVER, Stop
from lab.load.plan import LoadPlan
from lab.load.precise_timer import PreciseTimer, new_precise_timer

MS = 1_000_000


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def plan(make_plan: Callable[..., LoadPlan]) -> LoadPlan:
    return make_plan()


@pytest.fixture
def make_sender(plan: LoadPlan, make_client: Any, stop: Stop) -> Iterator[Callable[[], Sender]]:
    with SpoolWriter(plan.spool) as spool:
        yield lambda: Sender(plan, WHOLE, make_client(), spool, stop, lambda tell, told: tell(told))


def queued(plan: LoadPlan, sequence: int, due_ns: int, tell: Callable[[Any], object]) -> QueuedRequest:
    ask = Mix(plan).draw()
    return QueuedRequest(DueRequest(sequence, due_ns), ask, Payloads().get(ask.use_case.api, 400), tell)


async def test_what_is_due_first_is_sent_first_whoever_asked_first(
    plan: LoadPlan, make_sender: Callable[[], Sender], stop: Stop
) -> None:
    sender, told = make_sender(), asyncio.Queue[Any]()
    running = asyncio.create_task(sender.run())
    now = monotonic_ns()
    for sequence, after_ms in ((0, 60), (1, 20), (2, 40)):
        sender.take(queued(plan, sequence, now + after_ms * MS, told.put_nowait))

    for _ in range(3):
        outcome, latency_ns = await asyncio.wait_for(told.get(), 10)
        assert (outcome.status, latency_ns >= 0) == ("OK", True)
    stop.ask("test")
    await running

    records = read_spool(plan.spool)
    assert [record.sequence for record in records] == [1, 2, 0]
    assert all(record.sent_ns >= record.intended_ns for record in records)


async def test_what_a_user_that_is_gone_had_asked_for_is_not_sent(
    plan: LoadPlan, make_sender: Callable[[], Sender], stop: Stop
) -> None:
    sender, told = make_sender(), asyncio.Queue[Any]()
    running = asyncio.create_task(sender.run())
    gone, stays = (queued(plan, number, monotonic_ns() + 20 * MS, told.put_nowait) for number in range(2))
    for each in (gone, stays):
        sender.take(each)
    gone.cancelled = True

    await asyncio.wait_for(told.get(), 10)
    stop.ask("test")
    await running

    assert [record.sequence for record in read_spool(plan.spool)] == [1]


async def test_while_nothing_is_due_no_alarm_rings(
    plan: LoadPlan, make_sender: Callable[[], Sender], stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []

    def watched(loop: Any, callback: Any) -> PreciseTimer:
        alarm = new_precise_timer(loop, callback)
        ring = alarm.set

        def set_at(at_ns: int) -> None:
            times.append(at_ns)
            ring(at_ns)

        monkeypatch.setattr(alarm, "set", set_at)
        return alarm

    monkeypatch.setattr("lab.load.locust.sender.new_precise_timer", watched)
    sender, told = make_sender(), asyncio.Queue[Any]()
    running = asyncio.create_task(sender.run())
    due_ns = monotonic_ns() + 5 * MS
    sender.take(queued(plan, 0, due_ns, told.put_nowait))
    await asyncio.wait_for(told.get(), 10)
    stop.ask("test")
    await running

    assert [due_ns, NEVER] == [times[0], times[-1]]
