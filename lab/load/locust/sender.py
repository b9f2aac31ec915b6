"""Sends users' requests when they are due, and records each. Runs in the event loop."""

from __future__ import annotations

import asyncio
import secrets
from heapq import heappop, heappush
from time import monotonic_ns
from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.load.in_flight import InFlight
from lab.load.open_loop import BURST, NEVER, STOP_GRACE_S, TICK_S, Stop, first_of
from lab.load.outcome import NEVER_SENT
from lab.load.precise_timer import new_precise_timer
from lab.load.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.history import SpoolWriter
    from lab.load.arrivals import Share
    from lab.load.locust.pacing import DueRequest
    from lab.load.mix import Payload, RequestSpec
    from lab.load.open_loop import Start
    from lab.load.outcome import LoadClient, Outcome
    from lab.load.plan import LoadPlan


class QueuedRequest:
    """One request of a user.

    Attributes:
        due: its sequence number and time.
        spec: use case and context.
        payload: its message.
        on_done: called with the outcome, and the latency from the due time, ns.
        cancelled: set if the user is gone; the request is then not sent.
    """

    __slots__ = ("cancelled", "due", "on_done", "payload", "spec")

    def __init__(
        self, due: DueRequest, spec: RequestSpec, payload: Payload, on_done: Callable[[tuple[Outcome, int]], object]
    ) -> None:
        self.due, self.spec, self.payload, self.on_done = due, spec, payload, on_done
        self.cancelled = False

    def __lt__(self, other: QueuedRequest) -> bool:
        return self.due.intended_ns < other.due.intended_ns


class Sender:
    """Sends the requests of one process. Make it inside a running event loop, and use it once.

    Args:
        plan: the plan.
        share: the requests of the run that are sent here.
        client: ready and warmed up.
        spool: takes the records.
        stop: aborts the run.
        on_done: called with a request's ``on_done`` and its argument, to call it in the user's thread.

    Attributes:
        recorder: counts the records.
        sent: requests so far.
        first_due_ns: when the first request was due, on ``time.monotonic_ns``; 0 if there was none.
        last_sent_ns: when a request was last sent, likewise.
    """

    def __init__(
        self,
        plan: LoadPlan,
        share: Share,
        client: LoadClient,
        spool: SpoolWriter,
        stop: Stop,
        on_done: Callable[..., object],
    ) -> None:
        self._plan, self._share, self._stop, self._call_back = plan, share, stop, on_done
        self._id_prefix = secrets.token_hex(4)
        self._in_flight = InFlight(client, plan.timeout_s)
        self._due: list[QueuedRequest] = []
        self._accepts = True
        self._begun = 0
        self._size: int | None = None
        self._is_begun = bytearray()
        self._all_done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer = new_precise_timer(self._loop, self._begin_due)
        self._ticker: asyncio.TimerHandle | None = None
        self.recorder = Recorder(plan.topology, spool, on_error=lambda _: stop.ask("spool"))
        self.sent = self.first_due_ns = self.last_sent_ns = 0

    def expect(self, requests: int, start: Start) -> None:
        """Expects a whole share of a schedule; the run ends with its last request."""
        self._is_begun, self._size = bytearray(requests), requests
        self.recorder.unix_offset_ns = start.unix_offset_ns
        self._look_whether_done()

    def is_begun(self, sequence: int) -> bool:
        """Whether a request of the share was started."""
        return bool(self._is_begun) and bool(self._is_begun[sequence // self._share.step])

    def take(self, queued: QueuedRequest) -> None:
        """Queues a request until it is due."""
        if not self._accepts:
            return
        if not self._due or queued < self._due[0]:
            self._timer.set(queued.due.intended_ns)
        heappush(self._due, queued)

    async def run(self) -> None:
        """Returns when all requests are done, or the run was aborted.

        Raises:
            RunError: the spool cannot be written.
        """
        self._tick()
        try:
            await first_of(self._all_done, self._stop.asked)
            self._accepts = False
            self._timer.close()
            self._look_whether_done()
            await first_of(self._all_done, self._stop.forced, within_s=STOP_GRACE_S)
            while not self._all_done.is_set():
                self._in_flight.give_up_all()
                await first_of(self._all_done, within_s=TICK_S)
        finally:
            if self._ticker is not None:
                self._ticker.cancel()
            self.recorder.flush()
        if self.recorder.error is not None:
            raise RunError(
                f"{self._plan.spool}: cannot be written: {self.recorder.error.strerror}; the run was aborted"
            )

    def keep_unsent(self, due: DueRequest, spec: RequestSpec, size: int) -> None:
        """Records a request that was not due before the run was aborted."""
        self.recorder.keep(due.sequence, spec, NEVER_SENT, payload_bytes=size, intended_ns=due.intended_ns)

    def _begin_due(self) -> None:
        now, burst = monotonic_ns(), BURST
        while self._due and burst and self._due[0].due.intended_ns <= now:
            queued = heappop(self._due)
            if queued.cancelled and self._size is None:
                continue
            burst -= 1
            self._begun += 1
            if self._is_begun:
                self._is_begun[queued.due.sequence // self._share.step] = True
            self._loop.create_task(self._request(queued))
        if self._accepts:  # a timer that fired and is not set again would fire forever
            self._timer.set(self._due[0].due.intended_ns if self._due else NEVER)

    async def _request(self, queued: QueuedRequest) -> None:
        due, (message, size) = queued.due, queued.payload
        request_id = f"{self._id_prefix}-{due.sequence:08x}"
        self.last_sent_ns = sent_ns = monotonic_ns()
        self.first_due_ns = min(self.first_due_ns or due.intended_ns, due.intended_ns)
        self.sent += 1
        outcome = await self._in_flight.call(due.sequence, queued.spec, message, request_id=request_id, sent_ns=sent_ns)
        done_ns = monotonic_ns()
        self.recorder.keep(
            due.sequence,
            queued.spec,
            outcome,
            payload_bytes=size,
            intended_ns=due.intended_ns,
            sent_ns=sent_ns,
            done_ns=done_ns,
            request_id=request_id,
        )
        self._call_back(queued.on_done, (outcome, done_ns - due.intended_ns))
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        ended = not self._accepts and self.recorder.done == self._begun
        if ended or self.recorder.done == self._size:
            self._all_done.set()

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        self.recorder.flush()
        self._in_flight.give_up_late()
