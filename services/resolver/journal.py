"""The questions that a resolver was asked: evidence of how often callers use their leases."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from lab.clock import lab_time_ns
from lab.routing.headers import REQUEST_ID
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc

if TYPE_CHECKING:
    import grpc.aio

    _Context = grpc.aio.ServicerContext[Any, Any]

KEPT = 200_000
# About 30 KB, which hold up no question for more than a millisecond.
_BATCH = 1_000


class Journal(resolver_pb2_grpc.ResolverJournalServicer):
    """Keeps the latest questions, and serves ``control.v1.ResolverJournal``.

    Args:
        kept: number of questions to keep, about 100 bytes each.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._began_ns = lab_time_ns()
        self._asked: deque[tuple[str, int]] = deque(maxlen=kept)

    def asked(self, headers: Iterable[tuple[str, Any]]) -> None:
        """Registers a question with these headers."""
        self._asked.append((next((str(value) for name, value in headers if name == REQUEST_ID), ""), lab_time_ns()))

    async def Questions(
        self, request: resolver_pb2.QuestionsRequest, context: _Context
    ) -> AsyncIterator[resolver_pb2.QuestionsResponse]:
        """The questions since a time."""
        del context
        full = len(self._asked) == self._asked.maxlen
        known_from_ns = self._asked[0][1] if full else self._began_ns
        found = iter([each for each in self._asked if each[1] >= request.since_ns])
        yield resolver_pb2.QuestionsResponse(known_from_ns=known_from_ns)
        while batch := list(islice(found, _BATCH)):
            questions = [resolver_pb2.Question(request_id=name, asked_ns=at_ns) for name, at_ns in batch]
            yield resolver_pb2.QuestionsResponse(known_from_ns=known_from_ns, questions=questions)
