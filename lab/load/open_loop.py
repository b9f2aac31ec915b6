"""The open loop: sends each request at its intended time, independent of the others, and records each once.

A closed loop (send, wait, send) slows down with the server that it measures and hides how long users would have waited:
coordinated omission. Here the schedule is fixed beforehand, and latency counts from the intended time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from time import monotonic_ns, process_time
from typing import TYPE_CHECKING, NamedTuple, Self

from lab.client.outcome import Outcome, StreamedItems, answered, failed
from lab.clock import offset_ns
from lab.errors import CallError, RunError
from lab.load.mix import Mix, Payloads
from lab.load.outcome import NEVER_SENT, Recorder
from lab.load.progress import Counts, ProgressLines
from lab.load.stop_signals import take
from lab.load.summary import ShardResult
from lab.measure.latency import LatencyHistogram
from lab.transport.precise_timer import new_precise_timer
from models.apis import APIS

if TYPE_CHECKING:
    from lab.history import SpoolWriter
    from lab.load.arrivals import Schedule
    from lab.load.mix import Payload, RequestSpec
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress

NS = 1_000_000_000

LEAD_NS = 20_000_000  # between "go" and the start of the schedule, so that preparation delays no request
BURST = 64  # requests started in a row before answers are processed, when the loop is behind
TICK_S = 0.02  # interval of spool flushes and timeout checks
STOP_GRACE_S = 5.0  # for requests in flight when the run is aborted: longer than the timeouts of the lab's use cases

NEVER = sys.maxsize

_log = logging.getLogger(__name__)


class Stop:
    """Aborts a run: the first request stops sending, the second also cancels what is in flight."""

    def __init__(self) -> None:
        self.by = ""
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()

    @classmethod
    def on_signals(cls) -> Self:
        """One that SIGINT and SIGTERM ask; inside a running event loop."""
        stop = cls()
        take(asyncio.get_running_loop().add_signal_handler, stop.ask)
        return stop

    def ask(self, by: str) -> None:
        """Aborts; ``by`` says who asked, e.g. the name of a signal."""
        if self.asked.is_set():
            self.forced.set()
        else:
            self.by = by
            self.asked.set()


class Start(NamedTuple):
    """The start time of a schedule, common to all processes of a run.

    Attributes:
        at_ns: on ``time.monotonic_ns``, which is the same clock in all processes of a machine.
        unix_offset_ns: difference to Unix time.
    """

    at_ns: int
    unix_offset_ns: int

    @classmethod
    def soon(cls, lead_ns: int = LEAD_NS) -> Self:
        """A start time this many nanoseconds from now."""
        return cls(monotonic_ns() + lead_ns, offset_ns())


class RequestSender(ABC):
    """Sends requests when they are due, and records each once. Make it inside a running event loop, and use it once.

    Args:
        plan: the plan.
        client: ready and warmed up.
        spool: takes the records.
        stop: aborts the run.

    Attributes:
        recorder: counts the records.
        sent: requests so far.
        last_sent_ns: when a request was last sent, on ``time.monotonic_ns`` like all times here.
        end_ns: when the last request was done.
        cpu_s: CPU time of this process while it sent, seconds.
    """

    def __init__(self, plan: LoadPlan, client: LoadClient, spool: SpoolWriter, stop: Stop) -> None:
        self._plan, self._client, self._stop = plan, client, stop
        self._id_prefix = plan.id_prefix or secrets.token_hex(4)
        self.recorder = Recorder(plan.topology, spool, on_error=lambda _: stop.ask("spool"))
        self.sent = self.last_sent_ns = self.end_ns = 0
        self.cpu_s = 0.0

        self._begun = 0
        self._begins_no_more = False
        self._all_begun, self._all_done = asyncio.Event(), asyncio.Event()
        self._in_flight: dict[int, tuple[int, asyncio.Task[None]]] = {}  # in order of sending, and so of timeout
        self._timed_out: set[int] = set()
        self._logged = False

        self._event_loop = asyncio.get_running_loop()
        self._timer = new_precise_timer(self._event_loop, self._begin_due)
        self._ticker: asyncio.TimerHandle | None = None

    @abstractmethod
    def _begin_due(self) -> None:
        """Starts the requests that are due, and sets the timer for the next."""

    async def run(self) -> None:
        """Returns when all requests are done and recorded, or the run was aborted.

        Raises:
            RunError: the spool cannot be written; the run was aborted.
        """
        cpu_s = process_time()
        self._tick()
        try:
            await first_of(self._all_begun, self._stop.asked)
            self._begin_no_more()
            await first_of(self._all_done, self._stop.asked)
            await first_of(self._all_done, self._stop.forced, within_s=STOP_GRACE_S)
            while not self._all_done.is_set():
                for _, task in self._in_flight.values():
                    task.cancel()
                # In a loop, because a new task is not in flight before its first step.
                await first_of(self._all_done, within_s=TICK_S)
        finally:
            self._begin_no_more()
            if self._ticker is not None:
                self._ticker.cancel()
            self.recorder.flush()
            self.cpu_s = process_time() - cpu_s
        self.end_ns = monotonic_ns()
        self._record_what_was_never_sent()
        if self.recorder.error is not None:
            raise RunError(
                f"{self._plan.spool}: cannot be written: {self.recorder.error.strerror}; the run was aborted"
            )

    def result(
        self, schedule: Schedule | None, *, start_ns: int, planned_end_ns: int, warm_up_errors: Mapping[str, str]
    ) -> ShardResult:
        """The result of this process; ``schedule`` is its share, None if people or users decided when to send."""
        return ShardResult(
            planned=self.sent if schedule is None else len(schedule),
            sent=self.sent,
            ok=self.recorder.ok,
            stopped_by=self._stop.by,
            offered=None if schedule is None else schedule.offered_rps,
            start_ns=start_ns,
            planned_end_ns=planned_end_ns,
            last_sent_ns=self.last_sent_ns,
            end_ns=self.end_ns,
            cpu_s=self.cpu_s,
            niceness=os.getpriority(os.PRIO_PROCESS, 0),
            schedule_delays=LatencyHistogram(self.recorder.schedule_delays_ns),
            warm_up_errors=warm_up_errors,
            copies_dropped=self._client.copies_dropped,
        )

    async def _send(self, sequence: int, spec: RequestSpec, payload: Payload, intended_ns: int) -> tuple[Outcome, int]:
        """Sends one request, in its own task, and records it; returns its outcome and when it was done."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (for the type checker: a coroutine has a task)
        name, timeout_s, request_id = spec.use_case.name, self._plan.timeout_s, f"{self._id_prefix}-{sequence:08x}"
        self.last_sent_ns = sent_ns = monotonic_ns()
        self.sent += 1
        self._in_flight[sequence] = (sent_ns, task)
        api = APIS[spec.use_case.api]
        stream = StreamedItems(api, sent_ns) if self._plan.is_stream(sequence, spec.use_case) else None
        try:
            if stream is None:
                answer = await self._client.call(name, payload.message, spec.context, request_id=request_id)
                outcome = answered(answer, api)
            else:
                async for item in self._client.stream(name, payload.message, spec.context, request_id=request_id):
                    stream.add(item)
                outcome = stream.answered()
        except CallError as error:
            outcome = failed(error)
        except asyncio.CancelledError:
            late = f"{name}: no answer within {timeout_s:g} s; the driver gave up"
            stopped = f"{name}: the driver was stopped before an answer came"
            timed_out = sequence in self._timed_out
            outcome = Outcome("DEADLINE_EXCEEDED", late) if timed_out else Outcome("CANCELLED", stopped)
        except Exception as error:  # noqa: BLE001 (a bug in the client must not lose the record)
            self._log_once(error)
            outcome = Outcome("UNKNOWN", f"{type(error).__name__}: {error}")
        finally:
            del self._in_flight[sequence]
        done_ns = monotonic_ns()
        if stream is not None:
            outcome = stream.with_items(outcome)
        self.recorder.keep(
            sequence,
            spec,
            outcome,
            payload_bytes=payload.size,
            intended_ns=intended_ns,
            sent_ns=sent_ns,
            done_ns=done_ns,
            request_id=request_id,
        )
        return outcome, done_ns

    def _log_once(self, error: Exception) -> None:
        if not self._logged:
            self._logged = True
            _log.error("a call broke, and so may others", exc_info=error)

    def _begin_no_more(self) -> None:
        self._begins_no_more = True
        self._timer.close()
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        if self._begins_no_more and self.recorder.done == self._begun:
            self._all_done.set()

    def _record_what_was_never_sent(self) -> None:  # noqa: B027 (there may be no schedule)
        """Records the requests that were not due before the run was aborted, if there is a schedule."""

    def _tick(self) -> None:
        self._ticker = self._event_loop.call_later(TICK_S, self._tick)
        self.recorder.flush()
        sent_too_long_ago_ns = monotonic_ns() - round(self._plan.timeout_s * NS)
        for sequence, (sent_ns, task) in self._in_flight.items():
            if sent_ns > sent_too_long_ago_ns:
                break
            if sequence not in self._timed_out:
                self._timed_out.add(sequence)
                task.cancel()


class OpenLoop(RequestSender):
    """One run of a schedule or of a share of it.

    Args:
        plan: as for :class:`RequestSender`, like those not named here.
        schedule: its arrivals.

    Attributes:
        start_ns: start of the schedule.
    """

    def __init__(self, plan: LoadPlan, schedule: Schedule, client: LoadClient, spool: SpoolWriter, stop: Stop) -> None:
        super().__init__(plan, client, spool, stop)
        self._schedule = schedule
        self._mix = Mix(plan, schedule.share)
        self._payloads = Payloads()
        self._payloads.prepare((use_case.api for use_case in plan.use_cases), schedule.payload_bytes)
        self._progress = ProgressLines()
        self.start_ns = 0
        self._due_ns = NEVER  # when the next request starts

    @property
    def planned_end_ns(self) -> int:
        """End of the schedule; of an aborted run, the intended time of the first unsent request."""
        whole = self._begun == len(self._schedule)
        return self.start_ns + (self._schedule.duration_ns if whole else self._schedule.offsets_ns[self._begun])

    async def run(self, start: Start | None = None) -> None:
        """Returns when every request of the schedule has its record; ``start`` is soon, if left out.

        Raises:
            RunError: the spool cannot be written; the run was aborted.
        """
        start = start or Start.soon()
        self.start_ns = self.last_sent_ns = start.at_ns
        self.recorder.unix_offset_ns = start.unix_offset_ns
        self._wake_for_next()
        await super().run()

    def take_counts(self) -> Counts:
        """The counts of the run, with the latencies since the last call."""
        elapsed_ns = monotonic_ns() - self.start_ns
        return Counts(
            elapsed_ns=elapsed_ns,
            remaining_ns=0 if self._begins_no_more else self._schedule.duration_ns - elapsed_ns,
            sent=self.sent,
            done=self.recorder.done,
            ok=self.recorder.ok,
            recent_ns=self.recorder.take_recent_ns(),
        )

    def take_progress(self) -> Progress:
        """The same as a line of progress; call only one of the two."""
        return self._progress.take(**self.take_counts())

    def _begin_due(self) -> None:
        offsets, now = self._schedule.offsets_ns, monotonic_ns() - self.start_ns
        place, end = self._begun, min(len(offsets), self._begun + BURST)
        while place < end and offsets[place] <= now:
            self._event_loop.create_task(self._request(place))
            place += 1
        self._begun = place
        self._wake_for_next()

    def _wake_for_next(self) -> None:
        if self._begun == len(self._schedule):
            self._due_ns = NEVER
            self._all_begun.set()
        else:
            self._due_ns = self.start_ns + self._schedule.offsets_ns[self._begun]
            self._timer.set(self._due_ns)

    def _begin_no_more(self) -> None:
        self._due_ns = NEVER
        super()._begin_no_more()

    async def _request(self, place: int) -> None:
        _, done_ns = await self._send(*self._drawn(place))
        if done_ns >= self._due_ns:
            self._begin_due()  # sooner than the timer, which waits for the loop's next iteration
        else:
            self._look_whether_done()

    def _drawn(self, place: int) -> tuple[int, RequestSpec, Payload, int]:
        """The next request: number, what it asks, and when it is due. Called once for each place, in their order."""
        spec, schedule = self._mix.draw(), self._schedule
        return (
            schedule.share.first + place * schedule.share.step,
            spec,
            self._payloads.get(spec.use_case.api, schedule.payload_bytes[place]),
            self.start_ns + schedule.offsets_ns[place],
        )

    def _record_what_was_never_sent(self) -> None:
        for place in range(self._begun, len(self._schedule)):
            sequence, spec, payload, intended_ns = self._drawn(place)
            self.recorder.keep(sequence, spec, NEVER_SENT, payload_bytes=payload.size, intended_ns=intended_ns)
        self.recorder.flush()


async def first_of(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Returns when one of the events is set, or after ``within_s`` seconds."""
    if any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
