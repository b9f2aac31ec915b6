import asyncio
import platform
from time import monotonic_ns

import pytest

from lab.transport.precise_timer import LoopTimer, TimerfdTimer, new_precise_timer

MS = 1_000_000
DEADLINE_S = 30

ALARMS = [LoopTimer, TimerfdTimer] if platform.system() == "Linux" else [LoopTimer]


@pytest.mark.parametrize("kind", ALARMS)
async def test_it_wakes_at_each_time_that_it_was_set_to(kind: type[LoopTimer | TimerfdTimer]) -> None:
    finished = asyncio.Event()
    woken: list[int] = []
    times = [monotonic_ns() + after * MS for after in (3, 5, 11)]

    def wake() -> None:
        woken.append(monotonic_ns())
        if len(woken) == len(times):
            alarm.close()
            finished.set()
        else:
            alarm.set(times[len(woken)])

    alarm = kind(asyncio.get_running_loop(), wake)
    alarm.set(times[0])
    await asyncio.wait_for(finished.wait(), DEADLINE_S)

    # The loop's timer may be early by its granularity.
    assert all(at - 2 * MS <= seen for at, seen in zip(times, woken, strict=True))


@pytest.mark.parametrize("kind", ALARMS)
@pytest.mark.parametrize("past", [0, -1, 1])
async def test_a_time_that_is_past_wakes_at_once(kind: type[LoopTimer | TimerfdTimer], past: int) -> None:
    woken = asyncio.Event()
    alarm = kind(asyncio.get_running_loop(), woken.set)

    alarm.set(past)
    await asyncio.wait_for(woken.wait(), DEADLINE_S)

    alarm.close()


@pytest.mark.parametrize("kind", ALARMS)
async def test_a_later_setting_replaces_the_earlier_and_closing_twice_is_fine(
    kind: type[LoopTimer | TimerfdTimer],
) -> None:
    woken, other = asyncio.Event(), asyncio.Event()
    alarm, yardstick = kind(asyncio.get_running_loop(), woken.set), kind(asyncio.get_running_loop(), other.set)

    alarm.set(monotonic_ns() + 5 * MS)
    alarm.set(monotonic_ns() + 3_600_000 * MS)
    yardstick.set(monotonic_ns() + 30 * MS)
    await asyncio.wait_for(other.wait(), DEADLINE_S)

    assert not woken.is_set()
    for one in (alarm, yardstick, alarm):
        one.close()


async def test_linux_gets_the_fine_one() -> None:
    alarm = new_precise_timer(asyncio.get_running_loop(), lambda: None)
    alarm.close()

    assert (platform.system() == "Linux") == isinstance(alarm, TimerfdTimer)
