"""Tear injection: sends requests whose header and body name different model versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.load.arrivals import WHOLE
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.load.arrivals import Share
    from lab.routing.attempts import RequestAttempts

# The version in torn bodies; no route table has it, as versions count from 1.
OTHER_VERSION = "v0"


class TearEvery:
    """Tears the first attempt of every n-th request, as if half of a decision came from another revision.

    It is a client's ``before_send`` hook. With a share of a run it counts the other shares' requests too, as if each
    had come just before its own, so all shares together tear as many as one process would.
    """

    def __init__(self, every: int, share: Share = WHOLE) -> None:
        self._every, self._step = every, share.step
        self._requests = share.first + 1 - share.step

    async def __call__(self, attempts: RequestAttempts) -> None:
        """Called before each attempt."""
        if attempts.made or attempts.target.model_config is None:
            return
        if self.is_next():
            torn = serving_pb2.ModelConfig(model=attempts.target.model_config.model, version=OTHER_VERSION)
            attempts.target = replace(attempts.target, model_config=torn)

    def is_next(self) -> bool:
        """Whether to tear the next request."""
        self._requests += self._step
        return self._requests % self._every == 0
