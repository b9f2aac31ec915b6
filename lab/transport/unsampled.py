"""Requests of a traced lab that are not sampled: they have no spans, and pass on the ``traceparent`` that says so.

A span of the SDK that nothing records still takes tens of microseconds, several times a request.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Self

Headers = tuple[tuple[str, str], ...]

_TRACEPARENT, _TRACESTATE = "traceparent", "tracestate"
# By the W3C's recommendation; an even last digit: the sampled flag is not set.
_NOT_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")

_of_task: ContextVar[Headers] = ContextVar("lab_unsampled", default=())
_random = random.Random()  # noqa: S311 (no secret)


def of_task() -> Headers:
    """Headers to pass on with RPCs of this task's request; empty unless it is known not to be sampled."""
    return _of_task.get()


def received(metadata: Iterable[tuple[str, Any]]) -> Headers:
    """The same from a request's headers, by which its sender has decided."""
    found = tuple((name, value) for name, value in metadata if name in {_TRACEPARENT, _TRACESTATE})
    traceparent = [value for name, value in found if name == _TRACEPARENT]
    return found if len(traceparent) == 1 and _NOT_SAMPLED.fullmatch(traceparent[0]) else ()


def drawn(rate: float) -> Headers:
    """Headers of a new request, of which this share is sampled: empty if it is."""
    if _random.random() < rate:
        return ()
    return ((_TRACEPARENT, f"00-{_random.getrandbits(128) or 1:032x}-{_random.getrandbits(64) or 1:016x}-00"),)


def enter(headers: Headers) -> None:
    """From now on this task's request is known not to be sampled."""
    _of_task.set(headers)


class UnsampledRequest:
    """Stands for the span of such a request; see :class:`lab.transport.tracing.RequestSpan`.

    Its contexts are objects: those of generators would take longer than all else here.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def describe(self, *, routing_key: str, revision: int, failure: str = "") -> None:
        """Does nothing."""

    def current(self) -> _PassedOn:
        """RPCs of this task pass the headers on."""
        return _PassedOn(self._headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _PassedOn:
    """A context in which RPCs of this task pass headers on."""

    __slots__ = ("_headers", "_token")

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __enter__(self) -> None:
        self._token = _of_task.set(self._headers)

    def __exit__(self, *_: object) -> None:
        _of_task.reset(self._token)
