"""The driver: a process of its own that carries out a plan of load. ``python -m lab.load.driver PLAN.json``.

Its standard output is one JSON line a second, see :mod:`lab.load.progress`; the history goes to the plan's spool, its
account of itself to the plan's summary. SIGINT and SIGTERM break the run off: nothing more is sent, what is in flight
may finish, what was never sent is recorded as such. The exit status is 0 if every planned request has its record.
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

from lab.client import open_client
from lab.errors import CallError, LabError, RunError
from lab.history import SpoolWriter
from lab.load.mix import Payloads
from lab.load.open_loop import NS, OpenLoop, Stop, first_of
from lab.load.plan import read_plan
from lab.load.summary import DriverSummary, achieved_rate
from lab.load.tears import TearEvery
from lab.measure.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from lab.load.arrivals import Schedule
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress

PROGRESS_EVERY_S = 1.0

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
    try:
        warm_up_errors: dict[str, str] = {}
        await _unless_stopped(stop, warm_up(plan, client, warm_up_errors))
        with SpoolWriter(plan.spool) as spool:
            loop = OpenLoop(plan, schedule, client, spool, stop)
            reporting = asyncio.create_task(_report_each_second(loop, report))
            cpu_s = time.process_time()
            try:
                await loop.run()
            finally:
                cpu_s = time.process_time() - cpu_s
                reporting.cancel()
            report(loop.take_progress())
    finally:
        await client.close()
    return _summary(schedule, loop, cpu_s=cpu_s, stopped_by=stop.by, warm_up_errors=warm_up_errors)


async def warm_up(plan: LoadPlan, client: LoadClient, errors: dict[str, str]) -> None:
    """One call a use case, outside the history: connections, decisions and code paths are there when the run starts."""
    await client.ready()
    payloads = Payloads()
    context = {"user_id": "warm-up", "caller": plan.caller, "traffic_origin": plan.traffic_origin}
    for number, use_case in enumerate(plan.use_cases):
        message = payloads.get(use_case.api, plan.payload_bytes).message
        call = client.call(use_case.name, message, context, request_id=f"warm-up-{number}")
        try:
            await asyncio.wait_for(call, plan.timeout_s)
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


async def _report_each_second(loop: OpenLoop, report: Callable[[Progress], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        report(loop.take_progress())


def _summary(
    schedule: Schedule, loop: OpenLoop, *, cpu_s: float, stopped_by: str, warm_up_errors: Mapping[str, str]
) -> DriverSummary:
    recorder = loop.recorder
    delay = LatencyHistogram(recorder.schedule_delays_ns).percentiles()
    return DriverSummary(
        planned=len(schedule),
        sent=loop.sent,
        ok=recorder.ok,
        failed=recorder.done - recorder.ok,
        unsent=len(schedule) - loop.sent,
        stopped_by=stopped_by,
        offered=schedule.offered_rps,
        achieved_rate=achieved_rate(
            loop.sent,
            start_ns=loop.start_ns,
            planned_end_ns=loop.planned_end_ns,
            last_sent_ns=loop.last_sent_ns,
        ),
        wall_s=max(0, loop.end_ns - loop.start_ns) / NS,
        cpu_s=cpu_s,
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        schedule_delay_p50_ms=delay.p50_ms,
        schedule_delay_p90_ms=delay.p90_ms,
        schedule_delay_p99_ms=delay.p99_ms,
        schedule_delay_p999_ms=delay.p999_ms,
        schedule_delay_max_ms=delay.max_ms,
        warm_up_errors=warm_up_errors,
    )


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


async def carry_out(plan: LoadPlan, connect: Callable[[LoadPlan], LoadClient]) -> None:
    """Drives the plan until its end, or a signal, and writes its summary.

    Args:
        plan: the plan.
        connect: opens the client.

    Raises:
        LabError: see :func:`drive`; there may be records in the spool then, but there is no summary.
    """
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.ask, number.name)
    schedule = plan.schedule()
    go_first()
    write_summary(plan, await drive(plan, schedule, connect(plan), stop, print_progress))


def write_summary(plan: LoadPlan, summary: DriverSummary) -> None:
    """Leaves the driver's account of itself.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        plan.summary.write_bytes(orjson.dumps(asdict(summary), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"{plan.summary}: cannot be written: {error.strerror}") from error


def connect(plan: LoadPlan) -> LoadClient:
    """Opens the plan's client; inside a running event loop."""
    tear = TearEvery(plan.tear_every) if plan.tear_every else None
    return open_client(plan.topology, plan.caller, plan.endpoints, before_send=tear)


def main(arguments: list[str], connect: Callable[[LoadPlan], LoadClient] = connect) -> None:
    """Carries out the plan that the one argument names; exits with status 1 and one line if that cannot be done."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if len(arguments) != 1:
        sys.exit("usage: python -m lab.load.driver PLAN.json")
    file = Path(arguments[0])
    try:
        plan = read_plan(file)
        if plan.steering is None:
            uvloop.run(carry_out(plan, connect))
        else:
            from lab.load.steered.conductor import conduct  # noqa: PLC0415 (Locust, only for runs that it drives)

            conduct(plan, file)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
