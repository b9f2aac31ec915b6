"""The driver: a process of its own that carries out a plan of load. ``python -m lab.load.driver PLAN.json``.

Its standard output is one JSON line a second, see :mod:`lab.load.progress`; the history goes to the plan's spool, its
result of itself to the plan's summary. SIGINT and SIGTERM break the run off: nothing more is sent, what is in flight
may finish, what was never sent is recorded as such. The exit status is 0 if every planned request has its record.

A plan of several processes is led from here, see :mod:`lab.load.coordinator`; each of them is a :mod:`lab.load.shard`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.errors import LabError
from lab.history import SpoolWriter
from lab.load.coordinator import coordinate
from lab.load.engine import connect, print_progress, raise_priority, warm_up, write_summary
from lab.load.open_loop import OpenLoop, Start, Stop, first_of
from lab.load.plan import read_plan
from lab.load.progress import each_second
from lab.load.summary import ShardResult, combine
from lab.measure.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from lab.load.arrivals import Schedule
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress
    from lab.load.summary import DriverSummary


async def drive(
    plan: LoadPlan, schedule: Schedule, client: LoadClient, stop: Stop, report: Callable[[Progress], None]
) -> DriverSummary:
    """Waits for the client, warms it up, sends every request of the schedule, and closes the client.

    Args:
        plan: who asks for what; its spool must not exist.
        schedule: when.
        client: fresh from being opened.
        stop: breaks the run off.
        report: takes the progress, once a second and once at the end.

    Raises:
        UnitError: what the topology needs cannot be reached.
        RunError: the spool cannot be written.
    """

    async def soon() -> Start:
        return Start.soon()

    def tell(loop: OpenLoop) -> None:
        report(loop.take_progress())

    return combine([await drive_share(plan, schedule, client, stop, tell, soon, new_spool=True)])


async def drive_share(
    plan: LoadPlan,
    schedule: Schedule,
    client: LoadClient,
    stop: Stop,
    report: Callable[[OpenLoop], None],
    start: Callable[[], Awaitable[Start]],
    *,
    new_spool: bool,
) -> ShardResult:
    """What one process does of a run: as :func:`drive`.

    Args:
        plan: as for :func:`drive`, but for its spool.
        schedule: the share of this process, or the whole.
        client: as for :func:`drive`, as is ``stop``.
        stop: likewise.
        report: looks at the loop, once a second and once at the end.
        start: awaited when all is ready, says when to begin.
        new_spool: makes the spool, which must not exist; otherwise it must.
    """
    try:
        warm_up_errors: dict[str, str] = {}
        await _unless_stopped(stop, warm_up(plan, client, warm_up_errors))
        with SpoolWriter(plan.spool, new=new_spool) as spool:
            loop = OpenLoop(plan, schedule, client, spool, stop)
            begin = await start()
            reporting = asyncio.create_task(each_second(begin.at_ns, lambda: report(loop)))
            cpu_s = time.process_time()
            try:
                await loop.run(begin)
            finally:
                cpu_s = time.process_time() - cpu_s
                reporting.cancel()
            report(loop)
    finally:
        await client.close()
    return ShardResult(
        planned=len(schedule),
        sent=loop.sent,
        ok=loop.recorder.ok,
        stopped_by=stop.by,
        offered=schedule.offered_rps,
        start_ns=loop.start_ns,
        planned_end_ns=loop.planned_end_ns,
        last_sent_ns=loop.last_sent_ns,
        end_ns=loop.end_ns,
        cpu_s=cpu_s,
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        schedule_delays=LatencyHistogram(loop.recorder.schedule_delays_ns),
        warm_up_errors=warm_up_errors,
    )


async def _unless_stopped(stop: Stop, work: Coroutine[object, object, None]) -> None:
    """Ends the work early if the run is broken off."""
    finished = asyncio.Event()
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: finished.set())
    await first_of(finished, stop.asked)
    if not finished.is_set():
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def run(plan: LoadPlan, path: Path) -> None:
    """Drives the plan until its end, or a signal, and writes its summary.

    Args:
        plan: the plan.
        path: its file, for processes that share it.

    Raises:
        LabError: see :func:`drive` and :func:`lab.load.coordinator.coordinate`; there is no summary then, though the
            spool may hold records.
    """
    if plan.processes > 1:
        raise_priority()
        summary = await coordinate(plan, path, print_progress)
    else:
        stop = Stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.ask, number.name)
        schedule = plan.schedule()
        raise_priority()
        summary = await drive(plan, schedule, connect(plan), stop, print_progress)
    write_summary(plan, summary)


def main(arguments: list[str]) -> None:
    """Carries out the plan that the one argument names; exits with status 1 and one line if that cannot be done."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if len(arguments) != 1:
        sys.exit("usage: python -m lab.load.driver PLAN.json")
    path = Path(arguments[0])
    try:
        plan = read_plan(path)
        if plan.locust is None:
            uvloop.run(run(plan, path))
        else:
            from lab.load.locust.master import run_master  # noqa: PLC0415 (Locust, only for runs that it drives)

            run_master(plan, path)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
