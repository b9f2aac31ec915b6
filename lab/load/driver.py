"""The driver: a process that runs a load plan. ``python -m lab.load.driver PLAN.json``.

It prints one JSON line of progress per second (:mod:`lab.load.progress`), and writes the history to the plan's spool
and its own summary to the plan's summary file. SIGINT and SIGTERM abort the run: no more requests are sent, those in
flight may finish, the rest is recorded as unsent. The exit status is 0 if every planned request has a record.

It coordinates a plan with several processes or drivers (:mod:`lab.load.coordinator`); each of these is a
:mod:`lab.load.shard`. If one of several drivers fails, it writes the summary of the rest, and says so.

``python -m lab.load.driver FOLDER [DRIVERS]``, with ``<name>/plan.json``, runs several plans: for many callers with
little traffic each. They are divided among that many drivers, one by default. All start together when the last has
warmed up; ``FOLDER/began`` then holds the start time, Unix nanoseconds, and in the end ``FOLDER/driver.json`` the
summary of all. It prints progress as for one plan.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.errors import LabError, RunError
from lab.history import SpoolWriter
from lab.load.coordinator import PLANS, coordinate, coordinate_plans
from lab.load.engine import connect, print_progress, raise_priority, warm_up, write_summary
from lab.load.open_loop import OpenLoop, Start, Stop, first_of
from lab.load.plan import read_plan
from lab.load.progress import each_second, summed
from lab.load.summary import combine, merged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from lab.load.arrivals import Schedule
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Counts, Progress
    from lab.load.summary import DriverSummary, ShardResult

_SUMMARY = "driver.json"  # of all plans of a folder


async def drive(
    plan: LoadPlan, schedule: Schedule, client: LoadClient, stop: Stop, report: Callable[[Progress], None]
) -> DriverSummary:
    """Waits for the client, warms it up, sends every request of the schedule, and closes the client.

    Args:
        plan: the plan; its spool must not exist.
        schedule: its arrivals.
        client: newly opened.
        stop: aborts the run.
        report: called with the progress once a second and once at the end.

    Raises:
        UnitError: a unit that the topology needs cannot be reached.
        RunError: the spool cannot be written.
    """

    async def soon() -> Start:
        return Start.soon()

    take = OpenLoop.take_progress
    share = drive_share(plan, schedule, client, stop, lambda loop: report(take(loop)), soon, new_spool=True)
    return combine([await share])


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
    """Does one process's share of a run, as :func:`drive` does for all of it.

    Args:
        plan: as for :func:`drive`, except for its spool.
        schedule: the arrivals of this share.
        client: as for :func:`drive`.
        stop: as for :func:`drive`.
        report: called with the loop once a second and once at the end.
        start: called when this process is ready; returns the start time.
        new_spool: creates the spool, which must not exist; otherwise it must exist.
    """
    try:
        warm_up_errors: dict[str, str] = {}
        await _unless_stopped(stop, warm_up(plan, client, warm_up_errors))
        with SpoolWriter(plan.spool, new=new_spool) as spool:
            loop = OpenLoop(plan, schedule, client, spool, stop)
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


async def run(plan: LoadPlan, path: Path) -> None:
    """Runs the plan to its end, or until a signal, and writes its summary.

    Args:
        plan: the plan.
        path: its file, for processes that share it.

    Raises:
        LabError: see :func:`drive` and :func:`lab.load.coordinator.coordinate`; there is no summary then, though the
            spool may hold records.
    """
    if plan.processes > 1 or plan.drivers > 1:
        raise_priority()
        _write(plan.summary, await coordinate(plan, path, print_progress))
    else:
        stop, schedule = _stop_on_signals(), plan.schedule()
        raise_priority()
        write_summary(plan.summary, await drive(plan, schedule, connect(plan), stop, print_progress))


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

        return await drive_share(plan, plan.schedule(), connect(plan), stop, report_all, common_start, new_spool=True)

    results = await asyncio.gather(*(drive_one(number, plan) for number, plan in enumerate(plans)))
    for plan, result in zip(plans, results, strict=True):  # only now: its percentiles would delay the others' requests
        write_summary(plan.summary, combine([result]))
    return merged(results)


async def run_plans(folder: Path, drivers: int) -> None:
    """Runs the plans of a folder by several drivers, or until a signal, and writes a summary of all beside them.

    Raises:
        LabError: see :func:`lab.load.coordinator.coordinate_plans`.
    """
    raise_priority()
    _write(folder / _SUMMARY, await coordinate_plans(folder, drivers, print_progress))


def _write(path: Path, summary: DriverSummary) -> None:
    """Writes the summary of several drivers, and raises what is wrong with them."""
    write_summary(path, summary)
    if problems := [f"{each.name} {each.problem}" for each in summary.drivers if each.problem]:
        raise RunError("; ".join(problems))


def _stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.ask, number.name)
    return stop


def main(arguments: list[str]) -> None:
    """Runs the plan or the folder that is given; exits with status 1 and one line on an error."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    usage = "usage: python -m lab.load.driver PLAN.json|FOLDER [DRIVERS]"
    path, drivers = Path(*arguments[:1]), "".join(arguments[1:]) or "1"
    if not arguments or len(arguments) > 1 + path.is_dir() or not drivers.isdecimal():
        sys.exit(usage)
    try:
        if path.is_dir():
            if not (plans := len(list(path.glob(PLANS)))):
                raise RunError(f"{path}: holds no {PLANS}; name a folder of load plans, or one plan")
            uvloop.run(run_plans(path, min(int(drivers) or 1, plans)))
            return
        plan = read_plan(path)
        if plan.locust is None:
            uvloop.run(run(plan, path))
        else:
            from lab.load.locust.master import Master  # noqa: PLC0415 (imports Locust, only for its runs)

            Master(plan, path).run()
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
