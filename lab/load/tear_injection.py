"""Tears on demand: requests whose header names one model version and whose body another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.load.arrivals import WHOLE
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.load.arrivals import Share
    from lab.routing.attempts import RequestAttempts

# What the bodies name; no route table has it, as versions count from 1.
OTHER_VERSION = "v0"


class TearEvery:
    """Tears the first attempt of every n-th request, as if half of a decision were from another revision.

    A client's ``before_send``. One that sends a share of a run counts the others' requests too, as if each had come
    just before its own: all shares together tear as many as one process would.
    """

    def __init__(self, every: int, share: Share = WHOLE) -> None:
        self._every, self._step = every, share.step
        self._requests = share.first + 1 - share.step

    async def __call__(self, attempts: RequestAttempts) -> None:
        """Before each attempt."""
        if attempts.made or attempts.target.model_config is None:
            return
        if self.is_next():
            torn = serving_pb2.ModelConfig(model=attempts.target.model_config.model, version=OTHER_VERSION)
            attempts.target = replace(attempts.target, model_config=torn)

    def is_next(self) -> bool:
        """Whether the next request is to be torn."""
        self._requests += self._step
        return self._requests % self._every == 0
