"""The base class of users in locustfiles."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, ClassVar

from locust import User, constant

from lab.errors import LabError
from lab.plugins.locust.pacing import ClosedLoopPacing

if TYPE_CHECKING:
    from locust.env import Environment

    from lab.client.outcome import Outcome
    from lab.plugins.locust.user_pool import UserPool


class LabUser(User):
    """One user of the population, who calls models by use case.

    Without a ``wait_time`` of its own, its requests are due at the plan's times, whether earlier ones are answered or
    not: tasks only decide *what* the next request asks. With a ``wait_time``, the user and the whole run are a closed
    loop.

    Attributes:
        user_id: of the request context: ``u0``, ``u1``, …
    """

    abstract = True
    wait_time = constant(0)

    pool: ClassVar[UserPool | None] = None
    """All users of this process."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        pool = type(self).pool
        if pool is None:
            raise LabError("users of the lab live in a run of `lab load --engine locust`, not in Locust alone")
        self._pool = pool
        self.user_id, self._pace = pool.add_user(paced_by_plan=self.paced_by_plan())
        if isinstance(self._pace, ClosedLoopPacing):
            self._watch_waits(self._pace)

    @classmethod
    def paced_by_plan(cls) -> bool:
        """Whether its requests are due at the plan's times."""
        return cls.wait_time is LabUser.wait_time

    def ask(
        self, use_case: str | None = None, context: Mapping[str, str] | None = None, payload: int | None = None
    ) -> Outcome:
        """Waits until this user's next request is due, sends it, and waits for the answer.

        Args:
            use_case: drawn from the run's if left out.
            context: fields of the request context that replace those drawn from the mix.
            payload: size of the request, bytes; the run's if left out.

        Returns:
            The outcome: ``status`` is ``OK`` for an answer, else the name of a gRPC status; ``model``, ``version`` and
                ``cluster`` say who answered.
        """
        due = self._pool.next_request(self._pace)
        return self._pool.call(self.user_id, due, use_case, context or {}, payload)

    def _watch_waits(self, pace: ClosedLoopPacing) -> None:
        its_own: Any = self.wait_time

        def wait_time() -> float:
            seconds = float(its_own())
            pace.waits(monotonic_ns(), seconds)
            return seconds

        self.wait_time = wait_time  # type: ignore[method-assign]
