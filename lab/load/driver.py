"""The driver: a process of its own that carries out a plan of load. ``python -m lab.load.driver PLAN.json``.

Its standard output is one JSON line a second, see :mod:`lab.load.progress`; the history goes to the plan's spool, its
account of itself to the plan's summary. SIGINT and SIGTERM break the run off: nothing more is sent, what is in flight
may finish, what was never sent is recorded as such. The exit status is 0 if every planned request has its record.

A plan of several processes is led from here, see :mod:`lab.load.coordinator`; each of them is a :mod:`lab.load.shard`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import uvloop

from lab.errors import CallError, LabError, RunError
from lab.history import SpoolWriter
from lab.load.arrivals import WHOLE
from lab.load.coordinator import lead
from lab.load.mix import Payloads
from lab.load.open_loop import OpenLoop, Start, Stop, first_of
from lab.load.plan import read_plan
from lab.load.progress import each_second
from lab.load.summary import Account, add_up
from lab.load.tear_injection import TearEvery
from lab.measure.latency import LatencyHistogram
from lab.topologies import open_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from lab.load.arrivals import Schedule, Share
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress
    from lab.load.summary import DriverSummary

# Where driver and lab share the processors, as on one machine, the driver goes first: a late driver measures itself.
_NICENESS = -10

# Requests leave little garbage with cycles in it, and each look for it makes a request late.
_GC_THRESHOLDS = (10_000, 20, 50)


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

    return add_up([await drive_share(plan, schedule, client, stop, tell, soon, new_spool=True)])


async def drive_share(
    plan: LoadPlan,
    schedule: Schedule,
    client: LoadClient,
    stop: Stop,
    report: Callable[[OpenLoop], None],
    start: Callable[[], Awaitable[Start]],
    *,
    new_spool: bool,
) -> Account:
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
    return Account(
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


async def warm_up(plan: LoadPlan, client: LoadClient, errors: dict[str, str]) -> None:
    """One call a use case, outside the history: connections, decisions and code paths are there when the run starts."""
    await client.ready()
    payloads = Payloads()
    context = {"user_id": "warm-up", "caller": plan.caller, "traffic_origin": plan.traffic_origin}
    for number, use_case in enumerate(dict.fromkeys(plan.use_cases)):
        message = payloads.get(use_case.api, plan.payload_bytes).message
        call = client.call(use_case.name, message, context, request_id=f"warm-up-{number}")
        try:
            async with asyncio.timeout(plan.timeout_s):
                await call
        except CallError as error:
            errors[use_case.name] = str(error)
        except TimeoutError:
            errors[use_case.name] = f"no answer within {plan.timeout_s:g} s"


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


def print_progress(progress: Progress) -> None:
    """One line on standard output; if nobody reads there any more, the run goes on all the same."""
    with suppress(BrokenPipeError):
        print(progress.to_line(), flush=True)  # noqa: T201 (this is the driver's interface)


def go_first(niceness: int = _NICENESS) -> None:
    """Makes this process as punctual as it can be: first in line for the processor, and seldom looking for garbage."""
    with suppress(OSError):  # not everybody may
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    # What is there now stays; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def carry_out(plan: LoadPlan, path: Path) -> None:
    """Drives the plan until its end, or a signal, and writes its summary.

    Args:
        plan: the plan.
        path: its file, for processes that share it.

    Raises:
        LabError: see :func:`drive` and :func:`lab.load.coordinator.lead`; there may be records in the spool then, but
        there
            is no summary.
    """
    if plan.processes > 1:
        go_first()
        summary = await lead(plan, path, print_progress)
    else:
        stop = Stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.ask, number.name)
        schedule = plan.schedule()
        go_first()
        summary = await drive(plan, schedule, connect(plan), stop, print_progress)
    write_summary(plan, summary)


def write_summary(plan: LoadPlan, summary: DriverSummary) -> None:
    """Leaves the driver's account of itself.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        plan.summary.write_bytes(orjson.dumps(asdict(summary), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"{plan.summary}: cannot be written: {error.strerror}") from error


def connect(plan: LoadPlan, share: Share = WHOLE) -> LoadClient:
    """Opens the plan's client; inside a running event loop."""
    tear = TearEvery(plan.tear_every, share) if plan.tear_every else None
    return open_client(plan.topology, plan.caller, plan.endpoints, before_send=tear)


def main(arguments: list[str]) -> None:
    """Carries out the plan that the one argument names; exits with status 1 and one line if that cannot be done."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if len(arguments) != 1:
        sys.exit("usage: python -m lab.load.driver PLAN.json")
    path = Path(arguments[0])
    try:
        plan = read_plan(path)
        if plan.steering is None:
            uvloop.run(carry_out(plan, path))
        else:
            from lab.load.locust.master import conduct  # noqa: PLC0415 (Locust, only for runs that it drives)

            conduct(plan, path)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
