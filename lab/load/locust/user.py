"""What locustfiles derive their users from."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, ClassVar

from locust import User, constant

from lab.errors import LabError
from lab.load.locust.pacing import ClosedLoopPacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from locust.env import Environment

    from lab.load.locust.user_pool import UserPool
    from lab.load.outcome import Outcome


class LabUser(User):
    """One user of the population, who asks models by the name of a use case.

    Without a ``wait_time`` of its own its requests are due at the plan's times, whatever became of those before: tasks
    only say *what* is asked next. With one, it is a closed loop, and so is the run.

    Attributes:
        user_id: of the request context: ``u0``, ``u1``, …
    """

    abstract = True
    wait_time = constant(0)

    pool: ClassVar[UserPool | None] = None
    """What all users of this process have in common."""

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
        """Asks a model when this user's next request is due, and waits for the answer.

        Args:
            use_case: what for; drawn from those of the run if left out.
            context: fields of the request context, instead of those drawn from the run's mix.
            payload: size of the request, bytes; the run's if left out.

        Returns:
            How it went: ``status`` is ``OK`` for an answer, else the name of a gRPC status; ``model``, ``version`` and
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
