"""What all users of one process share: the pacing, the mix, and the sender."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from random import Random
from time import monotonic_ns
from typing import TYPE_CHECKING

from gevent.event import Event
from gevent.hub import Waiter
from locust.exception import StopUser

from lab.errors import InputError, LabError
from lab.load.mix import Mix, Payload, Payloads, RequestSpec
from lab.load.plan import CHOSEN_FIELDS, LoadPlan
from lab.load.progress import NS_PER_MS
from lab.plugins.locust.pacing import (
    NS,
    ClosedLoopPacing,
    DueRequest,
    Pacing,
    RatePacing,
    ScheduledPacing,
    sequence_numbers,
)
from lab.plugins.locust.sender import QueuedRequest

if TYPE_CHECKING:
    from locust.env import Environment

    from lab.client.outcome import Outcome
    from lab.load.arrivals import Schedule, Share

_FIELDS = ("user_id", *CHOSEN_FIELDS)


class UserPool:
    """The users of one process. Runs in gevent's thread.

    Args:
        plan: the plan.
        share: the requests of the run that this process sends.
        schedule: that share of the schedule; None if people or users decide when to send.
        environment: Locust's; gets an event for every answer.
        send: queues a request.
        fail: called with the reason if the run cannot go on.
    """

    def __init__(
        self,
        plan: LoadPlan,
        share: Share,
        schedule: Schedule | None,
        environment: Environment,
        *,
        send: Callable[[QueuedRequest], None],
        fail: Callable[[str], None],
    ) -> None:
        self._plan, self._schedule = plan, schedule
        self._environment, self._send, self._fail = environment, send, fail
        self._mix = Mix(plan, share)
        self._random = Random(f"pace:{plan.seed}:{share.first}")  # noqa: S311 (not security-relevant)
        self._payloads = Payloads()
        sizes = (plan.payload_bytes,) if schedule is None else schedule.payload_bytes
        self._payloads.prepare((use_case.api for use_case in plan.use_cases), sizes)
        self._use_cases = {use_case.name: use_case for use_case in plan.use_cases}
        self._user_numbers = itertools.count(share.first, share.step)
        self._numbers = sequence_numbers(share)
        self._slots: ScheduledPacing | None = None
        self._is_over = False
        self._may_begin = Event()
        if schedule is None:
            self._may_begin.set()

    def add_user(self, *, paced_by_plan: bool) -> tuple[str, Pacing | None]:
        """A new user's id and its pacing; None if all users share one."""
        user_id = f"u{next(self._user_numbers) % self._plan.users}"
        if self._schedule is not None:
            return user_id, None
        if paced_by_plan:
            rate = getattr(self._plan.arrivals, "rate", 0.0)  # only a schedule can replay a trace
            return user_id, RatePacing(self._numbers, round(self._plan.users * NS / rate), self._random)
        return user_id, ClosedLoopPacing(self._numbers)

    def begin(self, slots: ScheduledPacing) -> None:
        """Starts the schedule."""
        self._slots = slots
        self._may_begin.set()

    def end(self) -> None:
        """Ends the users: no more requests are sent."""
        self._is_over = True
        self._may_begin.set()

    def next_request(self, pace: Pacing | None) -> DueRequest:
        """A user's next request.

        Raises:
            StopUser: none is left.
        """
        self._may_begin.wait()
        if self._is_over:
            raise StopUser
        pace = self._slots if pace is None else pace
        assert pace is not None  # noqa: S101 (the schedule has started)
        due = pace.next_request(monotonic_ns())
        if due is None:
            raise StopUser
        return due

    def call(
        self, user_id: str, due: DueRequest, use_case: str | None, context: Mapping[str, str], payload: int | None
    ) -> Outcome:
        """Sends a request when it is due, and waits for its answer; arguments as for :meth:`LabUser.ask`."""
        spec = self._spec(user_id, use_case, context)
        waiter = Waiter()
        queued = QueuedRequest(due, spec, self._payload(spec, due, payload), waiter.switch)
        self._send(queued)
        try:
            outcome, latency_ns = waiter.get()
        except BaseException:
            queued.cancelled = True
            raise
        self._environment.events.request.fire(
            request_type=self._plan.topology,
            name=spec.use_case.name,
            response_time=latency_ns / NS_PER_MS,
            response_length=queued.payload.size,  # the UI has one column for a size: the one that costs here
            exception=None if outcome.status == "OK" else LabError(f"{outcome.status}: {outcome.message}"),
            context={},
        )
        return outcome  # type: ignore[no-any-return]  # gevent has no types

    def unsent(self, due: DueRequest) -> tuple[RequestSpec, int]:
        """Use case, context and size of a request that was never sent."""
        spec = self._mix.draw()
        return spec, self._payload(spec, due, None).size

    def _payload(self, spec: RequestSpec, due: DueRequest, size: int | None) -> Payload:
        if size is None:
            size = self._plan.payload_bytes if due.payload_bytes is None else due.payload_bytes
        return self._payloads.get(spec.use_case.api, size)

    def _spec(self, user_id: str, use_case: str | None, context: Mapping[str, str]) -> RequestSpec:
        """Use case and context as the user asks for them, the rest drawn from the mix."""
        spec = self._mix.draw()
        spec.context["user_id"] = user_id
        for field, value in context.items():
            if field not in _FIELDS:
                raise self._wrong(f"ask: no field {field!r} in a request context; there are {', '.join(_FIELDS)}")
            spec.context[field] = value
        if use_case is None:
            return spec
        if use_case not in self._use_cases:
            known = ", ".join(self._use_cases)
            raise self._wrong(f"ask: the use case {use_case!r} is not in this run; there are {known}")
        return RequestSpec(self._use_cases[use_case], spec.context)

    def _wrong(self, problem: str) -> InputError:
        self._fail(problem)
        return InputError(problem)
