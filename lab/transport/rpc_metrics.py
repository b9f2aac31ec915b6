"""Counts of RPCs at servers and clients, with the names that gRPC's own middleware for Go gives them.

Where a request is traced, the time of its RPC has the trace's id as its exemplar.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from lab.transport import metrics, tracing
from lab.transport.handlers import WrapsHandlers, kind_of, with_behaviour
from lab.transport.observed_channel import CallEnds, ObservedChannel

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

_UNKNOWN = "unknown"
_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_TYPES = {
    "unary_unary": "unary",
    "unary_stream": "server_stream",
    "stream_unary": "client_stream",
    "stream_stream": "bidi_stream",
}
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CODES = {code.name: "".join(word.capitalize() for word in code.name.split("_")) for code in grpc.StatusCode} | {
    "OK": "OK",
    "CANCELLED": "Canceled",
}  # as Go spells it


class CountsRpcs(WrapsHandlers):
    """Counts each RPC, and how long its handler took. Methods that the server lacks are one, ``unknown``.

    Args:
        registry: gets the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._counts = _Families("server", registry)

    def lacks_method(self) -> None:
        """Counts an RPC that the server does not have."""
        labels = (_UNKNOWN, _UNKNOWN, _UNKNOWN)
        self._counts.started.labels(*labels).inc()
        self._counts.handled.labels(*labels, _CODES["UNIMPLEMENTED"]).inc()

    def wrap(self, method: str, handler: Handler) -> Handler:
        """The handler, counted."""
        kind = kind_of(handler)
        behaviour, counts = getattr(handler, kind), self._counts.of(method, kind)

        async def one(request: Any, context: Context) -> Any:
            began = counts.begin()
            try:
                answer = await behaviour(request, context)
            except BaseException as error:
                counts.end(began, _failure(context, error))
                raise
            counts.end(began, _success(context))
            return answer

        async def several(request: Any, context: Context) -> AsyncIterator[Any]:
            began = counts.begin()
            try:
                answers = behaviour(request, context)
                if inspect.isawaitable(answers):  # the handler writes its answers itself
                    await answers
                else:
                    async for answer in answers:
                        yield answer
            except BaseException as error:
                counts.end(began, _failure(context, error))
                raise
            counts.end(began, _success(context))

        return with_behaviour(handler, several if handler.response_streaming else one)


class CountsCalls:
    """Counts each RPC of a client, and how long it took.

    Args:
        registry: gets the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = _Families("client", registry)
        self._ends = CallEnds()

    def channel(self, channel: grpc.aio.Channel) -> grpc.aio.Channel:
        """The channel, counted."""
        return ObservedChannel(channel, self._counted)

    def _counted(self, rpc: Any, kind: str, method: str) -> Any:
        counts = self._counts.of(method, kind)

        def call(*arguments: Any, **options: Any) -> Any:
            began = counts.begin()
            made = rpc(*arguments, **options)
            self._ends.after(made, lambda code, _: counts.end(began, code))
            return made

        return call


class _Families:
    """The metrics of one side, ``server`` or ``client``."""

    def __init__(self, side: str, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram  # noqa: PLC0415 (only where metrics are served)

        self.started = Counter(f"grpc_{side}_started", "RPCs that began.", _LABELS, registry=registry)
        self.handled = Counter(
            f"grpc_{side}_handled", "RPCs that ended, by status.", (*_LABELS, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            f"grpc_{side}_handling_seconds",
            "Time from an RPC's begin to its end, seconds.",
            _LABELS,
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.of = lru_cache(None)(self._of)

    def _of(self, method: str, kind: str) -> _Counts:
        """The counts of one method; see :class:`_Counts`."""
        service, _, name = method.lstrip("/").partition("/")
        return _Counts(self.started, self.handled, self._seconds, (_TYPES[kind], service, name))


class _Began(NamedTuple):
    """An RPC that has begun: when, and the ids of its trace, which are known only while its span lasts."""

    at_s: float
    ids: Mapping[str, str]


class _Counts:
    """The counts of one method; label values are looked up once."""

    def __init__(self, started: Any, handled: Any, seconds: Any, labels: tuple[str, ...]) -> None:
        self._started, self._seconds = started.labels(*labels), seconds.labels(*labels)
        self._handled = lru_cache(None)(lambda status: handled.labels(*labels, _CODES[status]))
        self._handled("OK")  # rates need a first value

    def begin(self) -> _Began:
        self._started.inc()
        return _Began(time.perf_counter(), tracing.ids())

    def end(self, began: _Began, status: str) -> None:
        self._handled(status).inc()
        self._seconds.observe(time.perf_counter() - began.at_s, began.ids or None)


def _success(context: Context) -> str:
    code: object = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "OK"


def _failure(context: Context, error: BaseException) -> str:
    """Name of the status that the client sees; a handler that set none was cancelled, or has a bug."""
    code: object = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    if not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return grpc.StatusCode.UNKNOWN.name
    late = context.time_remaining() == 0
    return (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name


def counting() -> tuple[CountsRpcs, ...]:
    """The interceptor that counts the RPCs of this process's servers; none if it serves no metrics."""
    served = metrics.registry()
    return () if served is None else (_counts_rpcs(served),)


def counted(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """The channel; where this process serves metrics, its RPCs are counted."""
    served = metrics.registry()
    return channel if served is None else _counts_calls(served).channel(channel)


@lru_cache(1)
def _counts_calls(served: CollectorRegistry) -> CountsCalls:
    return CountsCalls(served)


@lru_cache(1)
def _counts_rpcs(served: CollectorRegistry) -> CountsRpcs:
    return CountsRpcs(served)
