"""How often a unit's memory guard looks: by the processor time of the unit, which a flood takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from lab.transport import memory_guard
from lab.transport.memory_guard import MemoryGuard
from tests.waiting import eventually


class Counted(MemoryGuard):
    looks, is_over = 0, False

    def _resident(self) -> int:
        if self.is_over:
            threading.Event().wait()  # its daemon thread stays
        self.looks += 1
        return super()._resident()


@pytest.fixture
async def guard() -> AsyncIterator[Counted]:
    counted = Counted(asyncio.get_running_loop())
    yield counted
    counted.is_over = True


async def test_a_unit_at_rest_is_hardly_looked_at(guard: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_guard, "_REST_S", 0.5)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    guard.start()

    looks = await eventually("several looks", lambda: guard.looks, until=lambda count: count >= 4)

    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    assert looks <= 1 + took_s / memory_guard._REST_S + cpu_s / memory_guard._LOOK_CPU_S


async def test_a_busy_unit_is_looked_at_by_its_processor_time(guard: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_guard, "_REST_S", 3_600.0)
    guard.start()
    await eventually("the first look", lambda: guard.looks)

    before, until_cpu_s = guard.looks, time.process_time() + 100 * memory_guard._LOOK_CPU_S
    while guard.looks < before + 10 and time.process_time() < until_cpu_s:
        pass

    assert guard.looks >= before + 10


async def test_a_unit_is_looked_at_where_the_system_has_no_such_alarm(
    guard: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(_: float) -> None:
        raise OSError

    monkeypatch.setattr(memory_guard, "_REST_S", 3_600.0)
    monkeypatch.setattr(memory_guard, "CpuAlarm", none_here)
    guard.start()

    await eventually("several looks", lambda: guard.looks, until=lambda count: count >= 4)
