"""Runs of the open loop in one process: connects, warms up, sends a schedule and returns the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.history import SpoolWriter
from lab.load.open_loop import OpenLoop, Start, Stop, first_of
from lab.load.progress import each_second, summed
from lab.load.steps import connect, warm_up, write_summary
from lab.load.summary import combine, merged

if TYPE_CHECKING:
    from lab.load.arrivals import Schedule
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Counts, Progress
    from lab.load.summary import DriverSummary, ShardResult


async def drive(
    plan: LoadPlan,
    schedule: Schedule,
    client: LoadClient,
    stop: Stop,
    report: Callable[[Progress], None],
    loop_class: type[OpenLoop] = OpenLoop,
) -> DriverSummary:
    """Waits for the client, warms it up, sends every request of the schedule, and closes the client.

    Args:
        plan: the plan; its spool must not exist.
        schedule: its arrivals.
        client: newly opened.
        stop: aborts the run.
        report: called with the progress once a second and once at the end.
        loop_class: of the loop, which may ask something else than the plan draws.

    Raises:
        UnitError: a unit that the topology needs cannot be reached.
        RunError: the spool cannot be written.
    """

    async def soon() -> Start:
        return Start.soon()

    take = OpenLoop.take_progress
    share = drive_share(plan, schedule, client, stop, lambda loop: report(take(loop)), soon, loop_class)
    return combine([await share])


async def drive_share(
    plan: LoadPlan,
    schedule: Schedule,
    client: LoadClient,
    stop: Stop,
    report: Callable[[OpenLoop], None],
    start: Callable[[], Awaitable[Start]],
    loop_class: type[OpenLoop] = OpenLoop,
) -> ShardResult:
    """Does one process's share of a run, as :func:`drive` does for all of it.

    Args:
        plan: as for :func:`drive`, except for its spool.
        schedule: the arrivals of this share.
        client: as for :func:`drive`.
        stop: as for :func:`drive`.
        report: called with the loop once a second and once at the end.
        start: called when this process is ready; returns the start time.
        loop_class: as for :func:`drive`.
    """
    try:
        warm_up_errors: dict[str, str] = {}
        await _unless_stopped(stop, warm_up(plan, client, warm_up_errors))
        with SpoolWriter(plan.spool) as spool:
            loop = loop_class(plan, schedule, client, spool, stop)
            begin = await start()
            reporting = asyncio.create_task(each_second(begin.at_ns, lambda: report(loop)))
            try:
                await loop.run(begin)
            finally:
                reporting.cancel()
            report(loop)
    finally:
        await client.close()
    return loop.result(
        schedule, start_ns=loop.start_ns, planned_end_ns=loop.planned_end_ns, warm_up_errors=warm_up_errors
    )


async def _unless_stopped(stop: Stop, work: Coroutine[object, object, None]) -> None:
    """Ends the work early if the run is aborted."""
    finished = asyncio.Event()
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: finished.set())
    await first_of(finished, stop.asked)
    if not finished.is_set():
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def drive_plans(
    plans: Sequence[LoadPlan], stop: Stop, report: Callable[[Counts], None], start: Callable[[], Awaitable[Start]]
) -> ShardResult:
    """Runs several plans at the same time in this process; writes a summary of each, and returns that of all.

    Args:
        plans: one or more.
        stop: aborts the run.
        report: called with the counts of all plans, several times a second.
        start: called when all plans are ready; returns the start time.

    Raises:
        LabError: see :func:`drive`.
    """
    all_ready, ready = asyncio.Event(), 0
    loops: dict[int, OpenLoop] = {}
    begin: Start | None = None

    async def common_start() -> Start:
        nonlocal ready, begin
        ready += 1
        if ready == len(plans):
            begin = await start()
            all_ready.set()
        await all_ready.wait()
        assert begin is not None  # noqa: S101 (set before the event)
        return begin

    async def drive_one(number: int, plan: LoadPlan) -> ShardResult:
        def report_all(loop: OpenLoop) -> None:
            loops[number] = loop
            report(summed([each.take_counts() for each in loops.values()]))

        return await drive_share(plan, plan.schedule(), connect(plan), stop, report_all, common_start)

    results = await asyncio.gather(*(drive_one(number, plan) for number, plan in enumerate(plans)))
    for plan, result in zip(plans, results, strict=True):  # only now: its percentiles would delay the others' requests
        write_summary(plan.summary, combine([result]))
    return merged(results)
