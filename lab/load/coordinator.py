"""Coordinates the drivers that share a run: starts them, sets the start time, sums their results, ends them.

Each is a :mod:`lab.load.shard` in its own process group, so that Ctrl-C reaches only the coordinator, which forwards
it. Shards read commands from standard input, one per line (``go START_NS UNIX_OFFSET_NS``, ``clock``, ``stop WHO``,
``end``), and exit when it closes, so they never outlive the coordinator. Their standard output is JSON lines, each an
object with one key: ``ready``, ``counts``, ``clock``, ``result`` or ``error``.

They may be elsewhere: the file :data:`COMMANDS` beside the plan says how to start each, with its input and
output here. Clocks are measured before and after the run. A driver that dies, or is silent for too long, does not take
the run with it: its report says so, and the verdict follows from that.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, cast

import orjson

from lab import PYTHON
from lab.errors import RunError
from lab.load.clocks import PINGS, Clock, DriverReport, Sample, clock_fields, clock_of
from lab.load.open_loop import NS, Start
from lab.load.progress import Counts, ProgressLines, each_second, rate_between, summed
from lab.load.stop_signals import take
from lab.load.summary import ShardResult, combine

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress
    from lab.load.summary import DriverSummary

LEAD_NS = 100_000_000  # between "go" and the start of the schedule: every shard must have read it by then
BREAK_OFF_S = 30.0  # for the other shards to end gracefully when one has died
LOST_S = 10.0  # without a report, after which a driver is taken for lost
COMMANDS = "drivers.json"
"""Name of the file with the drivers of a plan, each a pair of name and command; without it, they are here."""
PLANS = "*/plan.json"
"""The plans of a folder that run together."""
BEGAN = "began"
"""Name of the file with the start time of plans that run together, Unix nanoseconds."""

# Shards report on each second; a moment later all reports have arrived.
_PROGRESS_AFTER_S = 0.1
_LINE_BYTES = 256 * 1024 * 1024  # one second of latencies, or many seconds if a shard was delayed
_POLL_S = 0.5
_NOTHING_YET = Counts(elapsed_ns=0, remaining_ns=0, sent=0, done=0, ok=0, recent_ns=())
_PID = "{pid}"  # in a name, until the process has one


async def coordinate(plan: LoadPlan, path: Path, report: Callable[[Progress], None]) -> DriverSummary:
    """Runs the plan by its drivers. SIGINT and SIGTERM abort the run.

    Args:
        plan: the plan; its spools must not exist.
        path: the plan's file.
        report: called with the progress once a second and once at the end.

    Raises:
        RunError: a driver failed before the start, or all failed. The others were stopped gracefully, and all have
            ended.
    """
    spools = [plan.spool_of(driver) for driver in range(plan.drivers)]
    if there := [each for each in spools if each.exists()]:
        raise RunError(f"{there[0]}: already exists; name a spool that does not exist")
    shards = Shards(_commands(plan, path))
    try:
        return await shards.run(report)
    finally:
        if not shards.started:
            for each in spools:
                each.unlink(missing_ok=True)  # no request was sent, so it is empty


async def coordinate_plans(folder: Path, drivers: int, report: Callable[[Progress], None]) -> DriverSummary:
    """Runs all plans of a folder, each by one of the drivers. SIGINT and SIGTERM abort the run.

    Args:
        folder: with :data:`PLANS`; their spools must not exist.
        drivers: how many; no more than plans.
        report: as for :func:`coordinate`.

    Raises:
        RunError: as :func:`coordinate` does.
    """
    return await Shards(_shards(folder, drivers)).run(report, began=folder / BEGAN)


def _commands(plan: LoadPlan, path: Path) -> list[tuple[str, list[str]]]:
    """Name and command of each shard."""
    if (file := path.with_name(COMMANDS)).exists():
        return [(name, command) for name, command in json.loads(file.read_text())]
    return _shards(path, plan.drivers)


def _shards(path: Path, count: int) -> list[tuple[str, list[str]]]:
    shard = [*PYTHON, "-m", "lab.load.shard", str(path)]
    return [(f"driver {number + 1} of {count} (pid {_PID})", [*shard, f"{number}/{count}"]) for number in range(count)]


class ShardProcess:
    """One shard's process, as the coordinator sees it.

    Attributes:
        name: for messages.
        counts: its latest report, without latencies.
        result: its result, once it is done.
        before: its clocks before the run; None if they were not measured.
        after: likewise, after the run.
        problem: why it ended before its time; empty if it did not.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process, self.name = process, name
        self.ready, self.done = asyncio.Event(), asyncio.Event()
        self.before: Clock | None = None
        self.after: Clock | None = None
        self.problem = ""
        self._heard_ns, self._silent_ns = monotonic_ns(), 0
        self._clocks: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.counts = _NOTHING_YET
        self.result: ShardResult | None = None
        self._recent_ns: list[int] = []

    def send(self, line: str) -> None:
        """Sends it one line; a dead shard is detected elsewhere."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
                self._process.stdin.write(f"{line}\n".encode())

    @property
    def ahead_ns(self) -> int:
        """Its monotonic clock minus this process's."""
        return self.before.ahead_ns if self.before else 0

    async def measure_clock(self) -> Clock:
        """Asks for its clocks.

        Raises:
            RunError: it does not answer.
        """
        samples = []
        try:
            async with asyncio.timeout(LOST_S):
                for _ in range(PINGS):
                    asked_ns = monotonic_ns()
                    self.send("clock")
                    samples.append(Sample(asked_ns, *await self._clocks.get(), self._heard_ns))
        except TimeoutError:
            raise RunError(f"{self.name} does not say what time it is") from None
        return clock_of(samples)

    async def close(self) -> None:
        """Returns when it has been measured after its result, and may end."""
        await self.done.wait()
        if self.before is not None:
            with suppress(RunError):  # its report says so
                self.after = await self.measure_clock()
        self.send("end")

    def watch(self) -> None:
        """Kills a driver that has been silent for too long."""
        silent_ns = monotonic_ns() - self._heard_ns
        if not self.done.is_set() and silent_ns > LOST_S * NS:
            self.problem = f"was silent for {silent_ns / NS:.0f} s, and taken for lost"
            with suppress(ProcessLookupError):
                self._process.kill()

    def begin(self) -> None:
        """From now on it reports every second."""
        self._heard_ns, self._silent_ns = monotonic_ns(), 0

    def report(self) -> DriverReport:
        """The report on it, as one of several drivers."""
        return DriverReport(
            name=self.name,
            planned=None if self.result is None else self.result.planned,
            sent=self.counts["sent"] if self.result is None else self.result.sent,
            **clock_fields(self.before, self.after),
            silent_s=self._silent_ns / NS,
            problem=self.problem,
        )

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
            heard_ns = monotonic_ns()
            if not self.done.is_set():
                self._silent_ns = max(self._silent_ns, heard_ns - self._heard_ns)
            self._heard_ns = heard_ns
            with suppress(orjson.JSONDecodeError):  # cut off by a kill, which the exit status shows
                self._take(orjson.loads(line))
        status = await self._process.wait()
        if self.result is None or status:
            self.problem = self.problem or _end(status)
            raise RunError(f"{self.name} {self.problem}; the others were stopped")

    def _take(self, message: dict[str, Any]) -> None:
        (what, value), *_ = message.items()
        match what:
            case "ready":
                self.ready.set()
            case "counts":
                self.counts = value
                self._recent_ns += self.counts["recent_ns"]
            case "clock":
                self._clocks.put_nowait(value)
            case "result":
                self.result = ShardResult.from_document(value)
                self.done.set()
            case "error":
                self.problem = str(value)
                raise RunError(value)

    async def kill(self) -> None:
        """Kills it if it has not ended, and returns when it has."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Shards:
    """All shards of a run.

    Args:
        commands: name and command of each.

    Attributes:
        processes: the shards started so far.
        started: whether they were sent the start time.
    """

    def __init__(self, commands: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._commands = commands
        self._stops: list[str] = []
        self._listening: set[asyncio.Task[None]] = set()
        self._closing: list[asyncio.Task[None]] = []
        self._lines = ProgressLines()
        self._reported: dict[ShardProcess, Counts] = {}
        self.processes: list[ShardProcess] = []
        self.started = False

    async def run(self, report: Callable[[Progress], None], *, began: Path | None = None) -> DriverSummary:
        """Starts the processes, and returns their summary when all have ended; SIGINT and SIGTERM abort the run.

        Args:
            report: called with the progress once a second and once at the end.
            began: file for the start time.
        """
        take(asyncio.get_running_loop().add_signal_handler, self.stop)
        try:
            await self.start()
            await self.ready()
            start = Start.soon(LEAD_NS)
            self.go(start)
            if began is not None:
                began.write_text(str(start.at_ns + start.unix_offset_ns))  # noqa: ASYNC240 (no request is in flight)
            reporting = asyncio.create_task(
                each_second(start.at_ns, lambda: report(self.take_progress()), after_s=_PROGRESS_AFTER_S)
            )
            try:
                await self.end()
            finally:
                reporting.cancel()
            report(self.take_progress())
        finally:
            await self.kill()
        results = [each.result.by_clock(each.ahead_ns) for each in self.processes if each.result is not None]
        return combine(results, [each.report() for each in self.processes])

    async def start(self) -> None:
        """Starts the processes."""
        for name, command in self._commands:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                limit=_LINE_BYTES,
            )
            shard = ShardProcess(process, name.replace(_PID, str(process.pid)))
            self.processes.append(shard)
            self._listening.add(asyncio.create_task(shard.listen()))
            self._closing.append(asyncio.create_task(shard.close()))
            for by in self._stops:
                shard.send(f"stop {by}")

    async def ready(self) -> None:
        """Returns when every shard is ready to send, and the clock of every driver is known.

        Raises:
            RunError: one failed or died.
        """
        all_ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait({all_ready, *self._listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._listening:
                if task.done():
                    task.result()
            all_ready.result()
        finally:
            all_ready.cancel()

    async def _all_ready(self) -> None:
        for shard in self.processes:
            await shard.ready.wait()
        for shard in self.processes:  # in turn, as they share this machine's processors at least at this end
            shard.before = await shard.measure_clock()

    def go(self, start: Start) -> None:
        """Sends the start time."""
        self.started = True
        for shard in self.processes:
            shard.begin()
            shard.send(f"go {start.at_ns + shard.ahead_ns} {start.unix_offset_ns - shard.ahead_ns}")

    def stop(self, by: str) -> None:
        """Stops sending; the second call also cancels requests in flight."""
        self._stops.append(by)
        for shard in self.processes:
            shard.send(f"stop {by}")

    async def end(self) -> None:
        """Returns when all have reported their results and ended.

        Raises:
            RunError: no driver did. Where one did not, the others were stopped, and have ended or had
                :data:`BREAK_OFF_S` to do so.
        """
        others = self._listening
        while others and not any(task.exception() for task in self._listening if task.done()):
            _, others = await asyncio.wait(others, timeout=_POLL_S, return_when=asyncio.FIRST_EXCEPTION)
            for shard in self.processes:
                shard.watch()
        if others:
            self.stop("driver")
            await asyncio.wait(others, timeout=BREAK_OFF_S)
        if any(shard.result for shard in self.processes):
            return
        for task in self._listening - others:
            task.result()

    def take_progress(self) -> Progress:
        """The progress of the whole run, from the shards' latest reports.

        The rate is the sum of the shards' rates, each over its own time: the report of one may be missing here.
        """
        rate = sum(rate_between(self._reported.get(shard, _NOTHING_YET), shard.counts) for shard in self.processes)
        self._reported = {shard: shard.counts for shard in self.processes}
        shares = [{**shard.counts, "recent_ns": shard.take_recent_ns()} for shard in self.processes]
        progress = self._lines.take(**summed(cast("list[Counts]", shares)))
        return replace(progress, rate=round(rate, 1))

    async def kill(self) -> None:
        """Kills those that have not ended."""
        for task in (*self._listening, *self._closing):
            task.cancel()
        await asyncio.gather(*self._listening, *self._closing, return_exceptions=True)
        await asyncio.gather(*(shard.kill() for shard in self.processes))


def _end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status} before its time"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
