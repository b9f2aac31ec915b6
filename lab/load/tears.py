"""Tears on demand: requests whose header names one model version and whose body another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.client import Passage

# What the bodies name; no route table has it, as versions count from 1.
OTHER_VERSION = "v0"


class TearEvery:
    """Tears the first attempt of every n-th request, as if half of a decision were from another revision.

    A client's ``before_send``.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._requests = 0

    async def __call__(self, passage: Passage) -> None:
        """Before each attempt."""
        if passage.attempts or passage.target.model_config is None:
            return
        self._requests += 1
        if self._requests % self._every == 0:
            torn = serving_pb2.ModelConfig(model=passage.target.model_config.model, version=OTHER_VERSION)
            passage.target = replace(passage.target, model_config=torn)
