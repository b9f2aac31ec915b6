"""Sends what users ask for at the moment it is due, and keeps a record of each request. Lives in the event loop."""

from __future__ import annotations

import asyncio
import secrets
from heapq import heappop, heappush
from time import monotonic_ns
from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.load.in_flight import UnderWay
from lab.load.open_loop import BURST, NEVER, STOP_GRACE_S, TICK_S, Stop, first_of
from lab.load.outcome import NEVER_SENT
from lab.load.precise_timer import new_alarm
from lab.load.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.history import SpoolWriter
    from lab.load.arrivals import Share
    from lab.load.locust.pacing import Turn
    from lab.load.mix import Ask, Payload
    from lab.load.open_loop import Start
    from lab.load.outcome import LoadClient, Outcome
    from lab.load.plan import LoadPlan


class Question:
    """One request of a user.

    Attributes:
        turn: when it is due.
        ask: what is asked.
        payload: with which message.
        tell: told how it went, and how long it took from when it was due, ns.
        withdrawn: set if the user is gone; what has not been sent by then will not be.
    """

    __slots__ = ("ask", "payload", "tell", "turn", "withdrawn")

    def __init__(self, turn: Turn, ask: Ask, payload: Payload, tell: Callable[[tuple[Outcome, int]], object]) -> None:
        self.turn, self.ask, self.payload, self.tell = turn, ask, payload, tell
        self.withdrawn = False

    def __lt__(self, other: Question) -> bool:
        return self.turn.intended_ns < other.turn.intended_ns


class Sender:
    """Made inside a running event loop, and used once.

    Args:
        plan: of the run.
        share: which requests of it are sent here.
        client: ready and warm.
        spool: takes the records.
        stop: breaks the run off.
        tell: hands an answer back to its user: the question's ``tell``, and the outcome with the latency in ns.

    Attributes:
        recorder: what was kept so far.
        sent: requests so far.
        first_due_ns: when the first request was due, of ``time.monotonic_ns``; 0 if there was none.
        last_sent_ns: when a request was last sent, likewise.
    """

    def __init__(
        self,
        plan: LoadPlan,
        share: Share,
        client: LoadClient,
        spool: SpoolWriter,
        stop: Stop,
        tell: Callable[..., object],
    ) -> None:
        self._plan, self._share, self._stop, self._tell = plan, share, stop, tell
        self._id_prefix = secrets.token_hex(4)
        self._under_way = UnderWay(client, plan.timeout_s)
        self._due: list[Question] = []
        self._accepts = True
        self._begun = 0
        self._size: int | None = None
        self._is_begun = bytearray()
        self._all_done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._alarm = new_alarm(self._loop, self._begin_due)
        self._ticker: asyncio.TimerHandle | None = None
        self.recorder = Recorder(plan.topology, spool, on_error=lambda _: stop.ask("spool"))
        self.sent = self.first_due_ns = self.last_sent_ns = 0

    def expect(self, requests: int, start: Start) -> None:
        """The whole share of a schedule will be asked for; with the last of it the run ends."""
        self._is_begun, self._size = bytearray(requests), requests
        self.recorder.unix_offset_ns = start.unix_offset_ns
        self._look_whether_done()

    def is_begun(self, sequence: int) -> bool:
        """Whether a request of the share was begun."""
        return bool(self._is_begun) and bool(self._is_begun[sequence // self._share.step])

    def take(self, question: Question) -> None:
        """Sends it when it is due."""
        if not self._accepts:
            return
        if not self._due or question < self._due[0]:
            self._alarm.set(question.turn.intended_ns)
        heappush(self._due, question)

    async def run(self) -> None:
        """Returns when all is done, or the run was broken off.

        Raises:
            RunError: the spool cannot be written.
        """
        self._tick()
        try:
            await first_of(self._all_done, self._stop.asked)
            self._accepts = False
            self._alarm.close()
            self._look_whether_done()
            await first_of(self._all_done, self._stop.insisted, within_s=STOP_GRACE_S)
            while not self._all_done.is_set():
                self._under_way.give_up_all()
                await first_of(self._all_done, within_s=TICK_S)
        finally:
            if self._ticker is not None:
                self._ticker.cancel()
            self.recorder.flush()
        if self.recorder.error is not None:
            raise RunError(f"{self._plan.spool}: cannot be written: {self.recorder.error.strerror}; the run broke off")

    def keep_unsent(self, turn: Turn, ask: Ask, size: int) -> None:
        """Records a request whose turn never came."""
        self.recorder.keep(turn.sequence, ask, NEVER_SENT, payload_bytes=size, intended_ns=turn.intended_ns)

    def _begin_due(self) -> None:
        now, burst = monotonic_ns(), BURST
        while self._due and burst and self._due[0].turn.intended_ns <= now:
            question = heappop(self._due)
            if question.withdrawn and self._size is None:
                continue
            burst -= 1
            self._begun += 1
            if self._is_begun:
                self._is_begun[question.turn.sequence // self._share.step] = True
            self._loop.create_task(self._request(question))
        if self._accepts:  # one that has rung and is not set anew would ring again and again
            self._alarm.set(self._due[0].turn.intended_ns if self._due else NEVER)

    async def _request(self, question: Question) -> None:
        turn, (message, size) = question.turn, question.payload
        request_id = f"{self._id_prefix}-{turn.sequence:08x}"
        self.last_sent_ns = sent_ns = monotonic_ns()
        self.first_due_ns = min(self.first_due_ns or turn.intended_ns, turn.intended_ns)
        self.sent += 1
        outcome = await self._under_way.call(
            turn.sequence, question.ask, message, request_id=request_id, sent_ns=sent_ns
        )
        done_ns = monotonic_ns()
        self.recorder.keep(
            turn.sequence,
            question.ask,
            outcome,
            payload_bytes=size,
            intended_ns=turn.intended_ns,
            sent_ns=sent_ns,
            done_ns=done_ns,
            request_id=request_id,
        )
        self._tell(question.tell, (outcome, done_ns - turn.intended_ns))
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        ended = not self._accepts and self.recorder.done == self._begun
        if ended or self.recorder.done == self._size:
            self._all_done.set()

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        self.recorder.flush()
        self._under_way.give_up_late()
