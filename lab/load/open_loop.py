"""The open loop: every request is sent at its intended time, whatever became of the others, and leaves one record.

A closed loop (send, wait, send) slows down with the server that it measures, and never sees how long people would have
waited: "coordinated omission". Here the schedule is fixed beforehand, and latency counts from it.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, NamedTuple, Self

from lab.errors import RunError
from lab.load.in_flight import InFlight
from lab.load.mix import Mix, Payloads
from lab.load.outcome import NEVER_SENT
from lab.load.precise_timer import new_precise_timer
from lab.load.progress import Counts, ProgressLines
from lab.load.recorder import Recorder

if TYPE_CHECKING:
    from lab.history import SpoolWriter
    from lab.load.arrivals import Schedule
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress

NS = 1_000_000_000

LEAD_NS = 20_000_000  # between "go" and the start of the schedule, so that getting ready makes no request late
BURST = 64  # requests begun before answers are looked at again, when the loop has fallen behind
TICK_S = 0.02  # how often the spool is flushed and the timeouts are looked at
STOP_GRACE_S = 2.0  # for what is in flight when the run is broken off

NEVER = sys.maxsize


class Stop:
    """How a run is broken off: at the first word nothing more is sent, at the second what is in flight is given up."""

    def __init__(self) -> None:
        self.by = ""
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def ask(self, by: str) -> None:
        """Breaks off; ``by`` says who asked, e.g. the name of a signal."""
        if self.asked.is_set():
            self.insisted.set()
        else:
            self.by = by
            self.asked.set()


class Start(NamedTuple):
    """Where a schedule begins; processes that share a run have the same.

    Attributes:
        at_ns: of ``time.monotonic_ns``, which counts alike in all processes of a machine.
        unix_offset_ns: makes Unix times of it.
    """

    at_ns: int
    unix_offset_ns: int

    @classmethod
    def soon(cls, lead_ns: int = LEAD_NS) -> Self:
        """In so many nanoseconds from now."""
        now = monotonic_ns()
        return cls(now + lead_ns, time_ns() - now)


class OpenLoop:
    """One run of one schedule, or of a share of it. Made inside a running event loop, and used once.

    Args:
        plan: who asks for what.
        schedule: when.
        client: ready and warm.
        spool: takes the records.
        stop: breaks the run off.

    Attributes:
        recorder: what was kept so far.
        sent: requests so far.
        start_ns: start of the schedule; times here are those of ``time.monotonic_ns``.
        last_sent_ns: when a request was last sent.
        end_ns: when the last was done.
    """

    def __init__(self, plan: LoadPlan, schedule: Schedule, client: LoadClient, spool: SpoolWriter, stop: Stop) -> None:
        self._plan, self._schedule, self._stop = plan, schedule, stop
        self._mix = Mix(plan, schedule.share)
        self._payloads = Payloads()
        self._payloads.prepare((use_case.api for use_case in plan.use_cases), schedule.payload_bytes)
        self._id_prefix = secrets.token_hex(4)
        self.recorder = Recorder(plan.topology, spool, on_error=lambda _: stop.ask("spool"))

        self._progress = ProgressLines()

        self.sent = 0
        self.start_ns = self.last_sent_ns = self.end_ns = 0

        self._begun = 0
        self._due_ns = NEVER  # when the next request is to be begun
        self._begins_no_more = False
        self._all_begun, self._all_done = asyncio.Event(), asyncio.Event()
        self._in_flight = InFlight(client, plan.timeout_s)

        self._event_loop = asyncio.get_running_loop()
        self._timer = new_precise_timer(self._event_loop, self._begin_due)
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def planned_end_ns(self) -> int:
        """End of the schedule; if the run was broken off, of that part of it whose turn came."""
        whole = self._begun == len(self._schedule)
        return self.start_ns + (self._schedule.duration_ns if whole else self._schedule.offsets_ns[self._begun])

    async def run(self, start: Start | None = None) -> None:
        """Returns when every request of the schedule has its record.

        Args:
            start: of the schedule; soon, if left out.

        Raises:
            RunError: the spool cannot be written; the run was broken off.
        """
        start = start or Start.soon()
        self.start_ns = self.last_sent_ns = start.at_ns
        self.recorder.unix_offset_ns = start.unix_offset_ns
        self._tick()
        self._wake_for_next()
        try:
            await first_of(self._all_begun, self._stop.asked)
            self._begin_no_more()
            await first_of(self._all_done, self._stop.asked)
            await first_of(self._all_done, self._stop.insisted, within_s=STOP_GRACE_S)
            while not self._all_done.is_set():
                self._in_flight.give_up_all()
                # Again, because a task that has only just been made is not in flight before its first step.
                await first_of(self._all_done, within_s=TICK_S)
        finally:
            self._begin_no_more()
            if self._ticker is not None:
                self._ticker.cancel()
        self.end_ns = monotonic_ns()
        self._record_what_was_never_sent()
        if self.recorder.error is not None:
            raise RunError(f"{self._plan.spool}: cannot be written: {self.recorder.error.strerror}; the run broke off")

    def take_counts(self) -> Counts:
        """How the run is going; its latencies are of what was done since this was last asked."""
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
        """The same as a line of progress; ask for the one or the other."""
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
        self._begins_no_more = True
        self._due_ns = NEVER
        self._timer.close()
        if self.recorder.done == self._begun:
            self._all_done.set()

    async def _request(self, place: int) -> None:
        sequence = self._sequence(place)
        spec = self._mix.draw()
        message, size = self._payloads.get(spec.use_case.api, self._schedule.payload_bytes[place])
        request_id = f"{self._id_prefix}-{sequence:08x}"
        self.last_sent_ns = sent_ns = monotonic_ns()
        self.sent += 1
        outcome = await self._in_flight.call(sequence, spec, message, request_id=request_id, sent_ns=sent_ns)
        done_ns = monotonic_ns()
        self.recorder.keep(
            sequence,
            spec,
            outcome,
            payload_bytes=size,
            intended_ns=self.start_ns + self._schedule.offsets_ns[place],
            sent_ns=sent_ns,
            done_ns=done_ns,
            request_id=request_id,
        )
        if done_ns >= self._due_ns:
            self._begin_due()  # sooner than the alarm, which waits for the loop to come round
        elif self._begins_no_more and self.recorder.done == self._begun:
            self._all_done.set()

    def _sequence(self, place: int) -> int:
        return self._schedule.share.first + place * self._schedule.share.step

    def _record_what_was_never_sent(self) -> None:
        for place in range(self._begun, len(self._schedule)):
            spec = self._mix.draw()
            self.recorder.keep(
                self._sequence(place),
                spec,
                NEVER_SENT,
                payload_bytes=self._payloads.get(spec.use_case.api, self._schedule.payload_bytes[place]).size,
                intended_ns=self.start_ns + self._schedule.offsets_ns[place],
            )
        self.recorder.flush()

    def _tick(self) -> None:
        self._ticker = self._event_loop.call_later(TICK_S, self._tick)
        self.recorder.flush()
        self._in_flight.give_up_late()


async def first_of(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Returns when one of the events is set, or after so many seconds."""
    if any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
