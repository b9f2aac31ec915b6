"""One of several drivers that share a run: ``python -m lab.load.shard PLAN.json K/N``, for K from 0 to N - 1.

It sends the requests whose sequence number modulo N is K. With a folder of plans it sends all requests of every N-th
plan. :mod:`lab.load.coordinator` controls it and describes its standard input and output. It ignores signals: the
coordinator handles them. For a plan it has its own spool.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from lab.clock import lab_time_ns
from lab.errors import LabError
from lab.load.arrivals import Share
from lab.load.coordinator import PLANS
from lab.load.open_loop import Start, Stop
from lab.load.open_loop_run import drive_plans, drive_share
from lab.load.plan import read_plan
from lab.load.steps import connect, raise_priority

if TYPE_CHECKING:
    from lab.load.summary import ShardResult

    Work = Callable[[Stop, Callable[[], Awaitable[Start]]], Awaitable[ShardResult]]


class _Coordinator(asyncio.Protocol):
    """The commands of the coordinator. The process exits when the connection closes: the coordinator is gone."""

    def __init__(self, stop: Stop) -> None:
        self._stop, self._rest = stop, b""
        self._start: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["go", at_ns, unix_offset_ns]:
                    self._start.set_result(Start(int(at_ns), int(unix_offset_ns)))
                case ["stop", by]:
                    self._stop.ask(by)
                case ["clock"]:
                    send(clock=(monotonic_ns(), lab_time_ns()))
                case ["end"]:
                    self.ended.set()

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`."""
        os._exit(1)  # as if killed together with the coordinator: nobody sums up the results

    async def start(self) -> Start:
        """Reports that this process is ready, and returns the start time."""
        send(ready=True)
        return await self._start


def send(**what: Any) -> None:
    """Sends one line to the coordinator; if it is gone, this process exits in a moment."""
    with suppress(BrokenPipeError):
        sys.stdout.buffer.write(orjson.dumps(what, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()


async def run(work: Work) -> None:
    """Does the work, reports the result, and returns when the coordinator needs nothing more.

    Raises:
        LabError: see :func:`lab.load.open_loop_run.drive_share`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stop = Stop()
    coordinator = _Coordinator(stop)
    await asyncio.get_running_loop().connect_read_pipe(lambda: coordinator, sys.stdin)
    raise_priority()
    result = await work(stop, coordinator.start)
    send(result=result.to_document())
    await coordinator.ended.wait()


def work_of(path: Path, share: Share) -> Work:
    """Returns the work of a share: requests of a plan, or of a folder's plans all requests of some.

    Raises:
        LabError: a plan cannot be read.
    """
    if path.is_dir():
        plans = [read_plan(each) for each in sorted(path.glob(PLANS))[share.first :: share.step]]
        return lambda stop, start: drive_plans(plans, stop, lambda counts: send(counts=counts), start)
    plan = read_plan(path)
    own = replace(plan, spool=plan.spool_of(share.first), id_prefix=plan.ids_of(share.first))
    schedule = plan.schedule().of(share)
    return lambda stop, start: drive_share(
        own,
        schedule,
        connect(plan, share),
        stop,
        lambda loop: send(counts=loop.take_counts()),
        start,
    )


def main(arguments: list[str]) -> None:
    """Runs the share; reports an error to the coordinator."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    path, share = arguments
    first, step = map(int, share.split("/"))
    try:
        uvloop.run(run(work_of(Path(path), Share(first, step))))
    except LabError as error:
        send(error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
