"""Coordinates the processes that share a run: starts them, sets the start time, sums their results, ends them.

Each is a :mod:`lab.load.shard` in its own process group, so that Ctrl-C reaches only the coordinator, which forwards
it. Shards read commands from standard input, one per line (``go START_NS UNIX_OFFSET_NS``, ``stop WHO``), and exit when
it closes, so they never outlive the coordinator. Their standard output is JSON lines, each an object with one key:
``ready``, ``counts``, ``result`` or ``error``.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from lab.errors import RunError
from lab.history import SpoolWriter
from lab.load.open_loop import Start
from lab.load.progress import Counts, ProgressLines, each_second
from lab.load.summary import ShardResult, combine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress
    from lab.load.summary import DriverSummary

LEAD_NS = 100_000_000  # between "go" and the start of the schedule: every shard must have read it by then
BREAK_OFF_S = 30.0  # for the other shards to end gracefully when one has died

# Shards report on each second; a moment later all reports have arrived.
_PROGRESS_AFTER_S = 0.1
_LINE_BYTES = 256 * 1024 * 1024  # one second of latencies, or many seconds if a shard was delayed


async def coordinate(plan: LoadPlan, path: Path, report: Callable[[Progress], None]) -> DriverSummary:
    """Runs the plan in several processes. SIGINT and SIGTERM abort the run.

    Args:
        plan: the plan; its spool must not exist.
        path: the plan's file.
        report: called with the progress once a second and once at the end.

    Raises:
        RunError: a shard failed or died. The others were stopped gracefully, and all have ended.
    """
    shards = Shards(plan.processes)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, shards.stop, number.name)
    with SpoolWriter(plan.spool):
        pass  # shards append to it
    try:
        await shards.start(path)
        await shards.ready()
        start = Start.soon(LEAD_NS)
        shards.go(start)
        reporting = asyncio.create_task(
            each_second(start.at_ns, lambda: report(shards.take_progress()), after_s=_PROGRESS_AFTER_S)
        )
        try:
            await shards.end()
        finally:
            reporting.cancel()
        report(shards.take_progress())
    finally:
        await shards.kill()
        if not shards.started:
            plan.spool.unlink()  # no request was sent, so it is empty
    return combine([shard.result for shard in shards.processes if shard.result is not None])


class ShardProcess:
    """One shard's process, as the coordinator sees it.

    Attributes:
        name: for messages.
        counts: its latest report, without latencies.
        result: its result, once it is done.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process, self.name = process, f"{name} (pid {process.pid})"
        self.ready = asyncio.Event()
        self.counts = Counts(elapsed_ns=0, remaining_ns=0, sent=0, done=0, ok=0, recent_ns=())
        self.result: ShardResult | None = None
        self._recent_ns: list[int] = []

    def send(self, line: str) -> None:
        """Sends it one line; a dead shard is detected elsewhere."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
                self._process.stdin.write(f"{line}\n".encode())

    def take_recent_ns(self) -> list[int]:
        """Reported latencies since the last call."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    async def listen(self) -> None:
        """Returns when it has reported its result and ended.

        Raises:
            RunError: it failed or died.
        """
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        async for line in self._process.stdout:
            with suppress(orjson.JSONDecodeError):  # cut off by a kill, which the exit status shows
                self._take(orjson.loads(line))
        status = await self._process.wait()
        if self.result is None or status:
            raise RunError(f"{self.name} of the driver {_end(status)}; the others were stopped")

    def _take(self, message: dict[str, Any]) -> None:
        (what, value), *_ = message.items()
        match what:
            case "ready":
                self.ready.set()
            case "counts":
                self.counts = value
                self._recent_ns += self.counts["recent_ns"]
            case "result":
                self.result = ShardResult.from_document(value)
            case "error":
                raise RunError(value)

    async def kill(self) -> None:
        """Kills it if it has not ended, and returns when it has."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Shards:
    """All shards of a run.

    Attributes:
        processes: the shards started so far.
        started: whether they were sent the start time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stops: list[str] = []
        self._listening: set[asyncio.Task[None]] = set()
        self._lines = ProgressLines()
        self.processes: list[ShardProcess] = []
        self.started = False

    async def start(self, plan: Path) -> None:
        """Starts the processes."""
        for number in range(self._size):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lab.load.shard", str(plan), f"{number}/{self._size}"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                limit=_LINE_BYTES,
            )
            shard = ShardProcess(process, f"process {number + 1} of {self._size}")
            self.processes.append(shard)
            self._listening.add(asyncio.create_task(shard.listen()))
            for by in self._stops:
                shard.send(f"stop {by}")

    async def ready(self) -> None:
        """Returns when every shard is ready to send.

        Raises:
            RunError: one failed or died.
        """
        all_ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait({all_ready, *self._listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._listening:
                if task.done():
                    task.result()
        finally:
            all_ready.cancel()

    async def _all_ready(self) -> None:
        for shard in self.processes:
            await shard.ready.wait()

    def go(self, start: Start) -> None:
        """Sends the start time."""
        self.started = True
        for shard in self.processes:
            shard.send(f"go {start.at_ns} {start.unix_offset_ns}")

    def stop(self, by: str) -> None:
        """Stops sending; the second call also cancels requests in flight."""
        self._stops.append(by)
        for shard in self.processes:
            shard.send(f"stop {by}")

    async def end(self) -> None:
        """Returns when all have reported their results and ended.

        Raises:
            RunError: one did not. The others were stopped, and have ended or had :data:`BREAK_OFF_S` to do so.
        """
        done, others = await asyncio.wait(self._listening, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            self.stop("driver")
            await asyncio.wait(others, timeout=BREAK_OFF_S)
        for task in done:
            task.result()

    def take_progress(self) -> Progress:
        """The progress of the whole run, from the shards' latest reports."""
        counts = [shard.counts for shard in self.processes]
        return self._lines.take(
            elapsed_ns=max(each["elapsed_ns"] for each in counts),
            remaining_ns=max(each["remaining_ns"] for each in counts),
            sent=sum(each["sent"] for each in counts),
            done=sum(each["done"] for each in counts),
            ok=sum(each["ok"] for each in counts),
            recent_ns=[latency for shard in self.processes for latency in shard.take_recent_ns()],
        )

    async def kill(self) -> None:
        """Kills those that have not ended."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await asyncio.gather(*(shard.kill() for shard in self.processes))


def _end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status} before its time"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
