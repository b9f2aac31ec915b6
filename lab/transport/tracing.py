"""Traces of requests, off by default: every unit's channels, servers and clients go through here.

The OpenTelemetry SDK is imported only in a process whose environment turns traces on. In all others a channel is
returned as it is, and a request costs one comparison.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self

from lab.transport.trace_settings import TraceSettings

if TYPE_CHECKING:
    import grpc.aio

    from lab.transport.spans import Spans

    Handler = Callable[[Any, Any], Awaitable[Any]]


class RequestSpan(Protocol):
    """The span of one request of a client."""

    def describe(self, *, routing_key: str, revision: int, failure: str = "") -> None:
        """Records how the request went; ``failure`` is the name of its status, empty for OK."""

    def current(self) -> AbstractContextManager[object]:
        """While the context lasts, RPCs of this task are parts of the request."""


class _NoSpan:
    """Stands for the span of a request that nobody traces; all requests share one."""

    def describe(self, *, routing_key: str, revision: int, failure: str = "") -> None:
        """Does nothing."""

    def current(self) -> Self:
        """A context without any effect."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


_NO_SPAN = _NoSpan()
_NO_IDS: Mapping[str, str] = {}
_spans: Spans | None = None
_known: dict[TraceSettings, Spans] = {}


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Turns traces on if the environment says so, else off, for what this process opens and sends from now on."""
    global _spans  # noqa: PLW0603 (a process is one unit, which all its channels and servers belong to)
    settings = TraceSettings.of(environment)
    if settings is None:
        _spans = None
        return
    if settings not in _known:
        from lab.transport.spans import Spans  # noqa: PLC0415 (takes 6 MB, and most labs have no traces)

        _known[settings] = Spans(settings)
    _spans = _known[settings]


def traced(channel: grpc.aio.Channel, target: str) -> grpc.aio.Channel:
    """The channel; where traces are on, each RPC on it that belongs to a request gets a span."""
    return channel if _spans is None else _spans.channel(channel, target)


def server_interceptors() -> tuple[grpc.aio.ServerInterceptor, ...]:
    """What gives each RPC of a server a span; nothing where traces are off."""
    return () if _spans is None else (_spans.interceptor,)


def spanned(method: str, headers: Sequence[tuple[str, str]], handler: Handler) -> Handler:
    """The handler of a request that comes by REST, for this request; where traces are on, with a span.

    Args:
        method: path of the RPC that the request stands for.
        headers: of the request; they may name a parent.
        handler: as for gRPC, given the message and a context like gRPC's.
    """
    return handler if _spans is None else _spans.interceptor.spanned(method, headers, handler)


def ids() -> Mapping[str, str]:
    """``trace_id`` and ``span_id`` of what this task is doing; empty where it is not traced."""
    return _NO_IDS if _spans is None else _spans.ids()


def request_span(use_case: str, request_id: str) -> AbstractContextManager[RequestSpan]:
    """The span of one request of a client, from its decision to its answer."""
    return _NO_SPAN if _spans is None else _spans.request(use_case, request_id)
