"""Sends users' requests when they are due, and records each. Runs in the event loop."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from time import monotonic_ns
from typing import TYPE_CHECKING

from lab.load.open_loop import BURST, NEVER, RequestSender, Start, Stop
from lab.load.outcome import NEVER_SENT, LoadClient

if TYPE_CHECKING:
    from lab.client.outcome import Outcome
    from lab.history import SpoolWriter
    from lab.load.arrivals import Share
    from lab.load.mix import Payload, RequestSpec
    from lab.load.plan import LoadPlan
    from lab.plugins.locust.pacing import DueRequest


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


class Sender(RequestSender):
    """Sends the requests of one process's users.

    Args:
        plan: as for :class:`lab.load.open_loop.RequestSender`, like those not named here.
        share: the requests of the run that are sent here.
        on_done: called with a request's ``on_done`` and its argument, to call it in the user's thread.

    Attributes:
        first_due_ns: when the first request was due; 0 if there was none.
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
        super().__init__(plan, client, spool, stop)
        self._share, self._call_back = share, on_done
        self._due: list[QueuedRequest] = []
        self._size: int | None = None
        self._is_begun = bytearray()
        self.first_due_ns = 0

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
        if self._begins_no_more:
            return
        if not self._due or queued < self._due[0]:
            self._timer.set(queued.due.intended_ns)
        heappush(self._due, queued)

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
            self._event_loop.create_task(self._request(queued))
        if not self._begins_no_more:  # a timer that fired and is not set again would fire forever
            self._timer.set(self._due[0].due.intended_ns if self._due else NEVER)

    async def _request(self, queued: QueuedRequest) -> None:
        due = queued.due
        self.first_due_ns = min(self.first_due_ns or due.intended_ns, due.intended_ns)
        outcome, done_ns = await self._send(due.sequence, queued.spec, queued.payload, due.intended_ns)
        self._call_back(queued.on_done, (outcome, done_ns - due.intended_ns))
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        super()._look_whether_done()
        if self.recorder.done == self._size:
            self._all_begun.set()
            self._all_done.set()
