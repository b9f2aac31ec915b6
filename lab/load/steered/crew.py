"""What all users of one process have in common: the pace, the mix, and the thread that sends."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random
from time import monotonic_ns
from typing import TYPE_CHECKING

from gevent.event import Event
from gevent.hub import Waiter
from locust.exception import StopUser

from lab.errors import InputError, LabError
from lab.load.mix import Ask, Mix, Payloads
from lab.load.plan import DRAWN_FIELDS
from lab.load.progress import NS_PER_MS
from lab.load.steered.pace import NS, ClosedLoop, Deal, OwnPace, Share
from lab.load.steered.sender import Question
from models.context import OVERRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from locust.env import Environment

    from lab.load.arrivals import Schedule
    from lab.load.outcome import Outcome
    from lab.load.plan import LoadPlan
    from lab.load.steered.pace import Pace, Turn

_FIELDS = ("user_id", *DRAWN_FIELDS, OVERRIDE)


class Crew:
    """The users of one process. Lives in gevent's thread.

    Args:
        plan: of the run.
        schedule: of the run; None if people or users decide when requests are sent.
        index: which worker this is, from 0.
        workers: how many there are.
        environment: Locust's, which is told of every answer.
        send: hands a question over to be sent.
        fail: told why the run cannot go on.
    """

    def __init__(
        self,
        plan: LoadPlan,
        schedule: Schedule | None,
        index: int,
        workers: int,
        environment: Environment,
        *,
        send: Callable[[Question], None],
        fail: Callable[[str], None],
    ) -> None:
        self._plan, self._schedule, self._index, self._workers = plan, schedule, index, workers
        self._environment, self._send, self._fail = environment, send, fail
        seed = f"{plan.seed}:{index}"
        self._mix = Mix(replace(plan, seed=Random(seed).getrandbits(32)))  # noqa: S311 (no secret)
        self._random = Random(seed)  # noqa: S311 (no secret)
        self._payloads = Payloads()
        sizes = (plan.payload_bytes,) if schedule is None else schedule.payload_bytes
        self._payloads.prepare((use_case.api for use_case in plan.use_cases), sizes)
        self._use_cases = {use_case.name: use_case for use_case in plan.use_cases}
        self._numbers = itertools.count(index, workers)
        self._deal = Deal(index, workers)
        self._share: Share | None = None
        self._may_begin = Event()
        if schedule is None:
            self._may_begin.set()

    def enlist(self, *, paced_by_plan: bool) -> tuple[str, Pace | None]:
        """A new user's id, and its pace; None for a pace that all have in common."""
        user_id = f"u{next(self._numbers) % self._plan.users}"
        if self._schedule is not None:
            return user_id, None
        if paced_by_plan:
            rate = getattr(self._plan.arrivals, "rate", 0.0)  # a plan that people steer plays no trace
            return user_id, OwnPace(self._deal, round(self._plan.users * NS / rate), self._random)
        return user_id, ClosedLoop(self._deal)

    def begin(self, share: Share) -> None:
        """The schedule starts."""
        self._share = share
        self._may_begin.set()

    def turn(self, pace: Pace | None) -> Turn:
        """A user's next request.

        Raises:
            StopUser: there is none left.
        """
        self._may_begin.wait()
        pace = self._share if pace is None else pace
        assert pace is not None  # noqa: S101 (it has begun)
        turn = pace.turn(monotonic_ns())
        if turn is None:
            raise StopUser
        return turn

    def ask(
        self, user_id: str, turn: Turn, use_case: str | None, context: Mapping[str, str], payload: int | None
    ) -> Outcome:
        """Sends a request when it is due, and waits for its answer. Arguments as for :meth:`LabUser.ask`."""
        ask = self.drawn(user_id, use_case, context)
        if payload is None:
            payload = self._plan.payload_bytes if turn.payload_bytes is None else turn.payload_bytes
        waiter = Waiter()
        message = self._payloads.get(ask.use_case.api, payload)
        question = Question(turn, ask, message, waiter.switch)
        self._send(question)
        try:
            outcome, latency_ns = waiter.get()
        except BaseException:
            question.withdrawn = True
            raise
        self._environment.events.request.fire(
            request_type=self._plan.topology,
            name=ask.use_case.name,
            response_time=latency_ns / NS_PER_MS,
            response_length=0,
            exception=None if outcome.status == "OK" else LabError(f"{outcome.status}: {outcome.message}"),
            context={},
        )
        answer: Outcome = outcome
        return answer

    def drawn(self, user_id: str, use_case: str | None = None, context: Mapping[str, str] | None = None) -> Ask:
        """What a user asks for, with all that it left open drawn."""
        ask = self._mix.draw()
        ask.context["user_id"] = user_id
        for field, value in (context or {}).items():
            if field not in _FIELDS:
                raise self._wrong(f"ask: no field {field!r} in a request context; there are {', '.join(_FIELDS)}")
            ask.context[field] = value
        if use_case is None:
            return ask
        if use_case not in self._use_cases:
            known = ", ".join(self._use_cases)
            raise self._wrong(f"ask: the use case {use_case!r} is not in this run; there are {known}")
        return Ask(self._use_cases[use_case], ask.context)

    def size(self, ask: Ask, turn: Turn) -> int:
        """Of a request that a schedule has and nobody sends."""
        payload = self._plan.payload_bytes if turn.payload_bytes is None else turn.payload_bytes
        return self._payloads.get(ask.use_case.api, payload).size

    def _wrong(self, problem: str) -> InputError:
        self._fail(problem)
        return InputError(problem)
