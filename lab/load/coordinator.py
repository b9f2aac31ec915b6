"""Leads the processes that share a run: starts them, names the start, adds up what they say, and sees them end.

Each is a :mod:`lab.load.shard`, in a process group of its own: what a terminal sends on Ctrl-C reaches the leader
alone, which passes it on. They read words from their standard input, one a line (``go START_NS UNIX_OFFSET_NS``,
``stop WHO``), and end at once when it closes: they do not outlive their leader, however that ends. Their standard
output is JSON, one object a line, with one key that says what it is: ``ready``, ``counts``, ``result`` or ``error``.
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

LEAD_NS = 100_000_000  # between "go" and the start of the schedule: every process must have heard it by then
BREAK_OFF_S = 30.0  # for the others to end in their own way, when one has died

# They speak on each second, and a moment later all have spoken.
_PROGRESS_AFTER_S = 0.1
_LINE_BYTES = 256 * 1024 * 1024  # a second of latencies; many seconds of them, if a process was held up


async def coordinate(plan: LoadPlan, path: Path, report: Callable[[Progress], None]) -> DriverSummary:
    """Has the plan carried out by as many processes as it says. SIGINT and SIGTERM break the run off.

    Args:
        plan: the plan; its spool must not exist.
        path: its file.
        report: takes the progress, once a second and once at the end.

    Raises:
        RunError: a process could not do its share, or has died; the others were broken off, in their own way, and all
            have ended.
    """
    shards = Shards(plan.processes)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, shards.stop, number.name)
    with SpoolWriter(plan.spool):
        pass  # they join it
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
            plan.spool.unlink()  # nothing was sent, so nothing is in it
    return combine([shard.result for shard in shards.processes if shard.result is not None])


class ShardProcess:
    """One of the processes.

    Attributes:
        name: for people.
        counts: what it last said of itself, but for the latencies.
        result: what it did, once it is done.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process, self.name = process, f"{name} (pid {process.pid})"
        self.ready = asyncio.Event()
        self.counts = Counts(elapsed_ns=0, remaining_ns=0, sent=0, done=0, ok=0, recent_ns=())
        self.result: ShardResult | None = None
        self._recent_ns: list[int] = []

    def send(self, line: str) -> None:
        """One line to it; whether it still listens is seen elsewhere."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
                self._process.stdin.write(f"{line}\n".encode())

    def take_recent_ns(self) -> list[int]:
        """Latencies of what was done since this was last asked, as far as it has said them."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    async def listen(self) -> None:
        """Returns when it has given its result and ended.

        Raises:
            RunError: it could not do its share, or died.
        """
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        async for line in self._process.stdout:
            with suppress(orjson.JSONDecodeError):  # torn by a kill, of which more in a moment
                self._take(orjson.loads(line))
        status = await self._process.wait()
        if self.result is None or status:
            raise RunError(f"{self.name} of the driver {_end(status)}; the others were broken off")

    def _take(self, said: dict[str, Any]) -> None:
        (what, value), *_ = said.items()
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
        """Ends it, if it has not ended yet, and returns when it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Shards:
    """All of the processes.

    Attributes:
        processes: those that were started.
        started: whether they have been told to begin.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stops: list[str] = []
        self._listening: set[asyncio.Task[None]] = set()
        self._lines = ProgressLines()
        self.processes: list[ShardProcess] = []
        self.started = False

    async def start(self, plan: Path) -> None:
        """Starts them."""
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
        """Returns when each is ready to send.

        Raises:
            RunError: one will never be.
        """
        everybody = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait({everybody, *self._listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._listening:
                if task.done():
                    task.result()
        finally:
            everybody.cancel()

    async def _all_ready(self) -> None:
        for shard in self.processes:
            await shard.ready.wait()

    def go(self, start: Start) -> None:
        """Tells them when to begin."""
        self.started = True
        for shard in self.processes:
            shard.send(f"go {start.at_ns} {start.unix_offset_ns}")

    def stop(self, by: str) -> None:
        """Tells them to send no more; the second time, to give up what is in flight."""
        self._stops.append(by)
        for shard in self.processes:
            shard.send(f"stop {by}")

    async def end(self) -> None:
        """Returns when all have given their results and ended.

        Raises:
            RunError: one did not; the others were broken off and have ended, or were given :data:`BREAK_OFF_S` to.
        """
        done, others = await asyncio.wait(self._listening, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            self.stop("driver")
            await asyncio.wait(others, timeout=BREAK_OFF_S)
        for task in done:
            task.result()

    def take_progress(self) -> Progress:
        """How the run is going, all together, by what each last said."""
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
        """Ends those that have not ended."""
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
