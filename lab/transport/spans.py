"""Spans by the OpenTelemetry SDK, with names and attributes of its conventions for RPCs (stable since 1.45).

A span belongs to a request: a client makes one only as part of another span, and no span stands for a health check or
an endless stream of the control plane. The parent comes and goes as W3C ``traceparent`` and ``tracestate``, whose
sampled flag a unit obeys. Texts of a request are shortened, and their control characters escaped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import grpc.aio
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lab.errors import CallError
from lab.identity import host_name
from lab.plain_text import printable
from lab.routing import headers
from lab.routing.attempts import AnswerMetadata
from lab.routing.keys import HEADER
from lab.transport import unsampled
from lab.transport.handlers import failure_of, with_behaviour
from lab.transport.observed_channel import CallEnds, ObservedChannel
from lab.transport.security import Security
from lab.transport.trace_settings import MAX_ATTRIBUTE_CHARACTERS, TraceSettings
from lab.transport.unsampled import UnsampledRequest

_MOST_ATTRIBUTES = 32
_EXPORT_INTERVAL_MS = 500
# Spans that wait for an export; more are dropped.
_MOST_WAITING, _AT_ONCE = 8_192, 256
_EXPORT_TIMEOUT_S = 2.0
_SYSTEM = {"rpc.system.name": "grpc"}
_REST = {"network.protocol.name": "http"}
_OK = grpc.StatusCode.OK.name
# For a server, other failures are its client's. By the conventions for gRPC.
_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_OF_HEADERS = {headers.REQUEST_ID: "lab.request_id", HEADER: "lab.routing_key"}
_W3C = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of this process's requests, and exports them.

    Args:
        settings: where to, and how many.
        exporter: in place of OTLP; for tests.

    Attributes:
        interceptor: gives each RPC of a server a span.
        flush: exports what waits; :attr:`shutdown` does, too. The end of the process does both.
        shutdown: ends the thread that exports.
    """

    def __init__(self, settings: TraceSettings, exporter: SpanExporter | None = None) -> None:
        provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),  # requests that are not sampled have no spans: lab.transport.unsampled
            resource=Resource({"service.name": settings.service, "service.instance.id": settings.unit}),
            span_limits=SpanLimits(
                max_span_attributes=_MOST_ATTRIBUTES,
                max_span_attribute_length=MAX_ATTRIBUTE_CHARACTERS,
                max_events=0,
                max_links=0,
            ),
        )
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter or _Exporter(settings),
                max_queue_size=_MOST_WAITING,
                max_export_batch_size=_AT_ONCE,
                schedule_delay_millis=_EXPORT_INTERVAL_MS,
            )
        )
        self.flush, self.shutdown = provider.force_flush, provider.shutdown
        self._tracer, self._rate = provider.get_tracer("lab"), settings.rate
        self.interceptor = _ServerSpans(self._tracer, settings.rate)

    def channel(self, channel: grpc.aio.Channel, target: str) -> grpc.aio.Channel:
        """The channel, with a span for each RPC that belongs to a request."""
        host, _, port = target.rpartition(":")
        single = bool(host) and port.isdecimal() and "," not in target
        server = {"server.address": host, "server.port": int(port)} if single else {"server.address": target}

        def observe(rpc: Any, kind: str, method: str) -> Any:
            one_request = kind in ("unary_unary", "unary_stream")
            if not one_request or not _belongs_to_requests(method, streaming=kind == "unary_stream"):
                return rpc
            return _Rpc(rpc, method, server, self._tracer)

        return ObservedChannel(channel, observe)

    @staticmethod
    def ids() -> dict[str, str]:
        """Ids of this task's span, as logs have them; empty if it has none that is recorded."""
        span = trace.get_current_span()
        if not span.is_recording():
            return {}
        own = span.get_span_context()
        return {"trace_id": trace.format_trace_id(own.trace_id), "span_id": trace.format_span_id(own.span_id)}

    def request(self, use_case: str, request_id: str) -> AbstractContextManager[_Request | UnsampledRequest]:
        """The span of one request of a client; a root unless its task has a span already."""
        if not _is_within(None) and (dropped := unsampled.of_task() or unsampled.drawn(self._rate)):
            return UnsampledRequest(dropped)
        return self._sampled(use_case, request_id)

    @contextmanager
    def _sampled(self, use_case: str, request_id: str) -> Iterator[_Request]:
        attributes = {"lab.use_case": _text(use_case), "lab.request_id": _text(request_id)}
        span = self._tracer.start_span(f"call {printable(use_case, 64)}", attributes=attributes)
        try:
            yield _Request(span)
        finally:
            span.end()


class _Request:
    """See :class:`lab.transport.tracing.RequestSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def describe(self, *, routing_key: str, revision: int, failure: str = "") -> None:
        self._span.set_attributes(_answered(routing_key, revision))
        if failure:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(Status(StatusCode.ERROR))

    @contextmanager
    def current(self) -> Iterator[None]:
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


class _Exporter(SpanExporter):
    """Exports by OTLP; opens a new channel when this unit's certificate is replaced."""

    def __init__(self, settings: TraceSettings) -> None:
        self._settings = settings
        self._security = Security.of_this_process() if settings.peer else Security()
        self._version = ""
        self._exporter = self._open()

    def _open(self) -> OTLPSpanExporter:
        options: dict[str, Any] = {"insecure": True}
        if authorities := self._settings.authorities:
            options = {"insecure": False, "credentials": grpc.ssl_channel_credentials(authorities.encode())}
        if self._security.is_mtls:
            self._version = self._security.version()
            options = {
                "credentials": self._security.channel_credentials(),
                "channel_options": (("grpc.ssl_target_name_override", host_name(self._settings.peer)),),
            }
        return OTLPSpanExporter(endpoint=self._settings.endpoint, timeout=_EXPORT_TIMEOUT_S, **options)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._security.is_mtls and self._security.version() != self._version:
            self._exporter.shutdown()
            self._exporter = self._open()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _belongs_to_requests(method: str, *, streaming: bool) -> bool:
    """Whether an RPC can be a part of a request.

    Health checks, reflection, a client's question for a timeout, and streams of the control plane are none.
    """
    return not method.startswith(("/grpc.", "/control.v1.Gateway/")) and not (
        streaming and method.startswith("/control.")
    )


def _is_within(context: contexts.Context | None) -> bool:
    """Whether a context, or this task's, has a span."""
    return trace.get_current_span(context).get_span_context().is_valid


def _text(value: object) -> str:
    return printable(str(value), MAX_ATTRIBUTE_CHARACTERS)


def _of_metadata(metadata: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Attributes from a request's headers."""
    return {_OF_HEADERS[name]: _text(value) for name, value in metadata if name in _OF_HEADERS}


def _answered(routing_key: str, revision: int) -> dict[str, Any]:
    """Attributes of the decision, as far as it is known."""
    known = {"lab.routing_key": _text(routing_key), "lab.revision": revision}
    return {name: value for name, value in known.items() if value}


def _end(span: Span, code: str, *, is_error: bool, at_ns: int | None = None) -> None:
    span.set_attribute("rpc.response.status_code", code)
    if is_error:
        span.set_attribute("error.type", code)
        span.set_status(Status(StatusCode.ERROR))
    span.end(at_ns)


# -- clients -----------------------------------------------------------------------------------------------------------


class _Rpc:
    """An RPC; each call within a span gets its own span, and carries it in its headers."""

    __slots__ = ("_attributes", "_ends", "_name", "_rpc", "_tracer")

    def __init__(self, rpc: Any, method: str, attributes: Mapping[str, Any], tracer: Tracer) -> None:
        self._rpc, self._name, self._tracer = rpc, method.lstrip("/"), tracer
        self._attributes = {**_SYSTEM, "rpc.method": self._name, **attributes}
        self._ends = CallEnds()

    def __call__(self, request: Any, *, metadata: Any = None, **options: Any) -> Any:
        if dropped := unsampled.of_task():
            return self._rpc(request, metadata=(*(metadata or ()), *dropped), **options)
        if not _is_within(None):
            return self._rpc(request, metadata=metadata, **options)
        metadata = tuple(metadata or ())
        span = self._tracer.start_span(self._name, kind=SpanKind.CLIENT)
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span))
        call = self._rpc(request, metadata=(*metadata, *carrier.items()), **options)
        span.set_attributes({**self._attributes, **_of_metadata(metadata)})
        self._ends.after(call, lambda code, at_ns: _end(span, code, is_error=code != _OK, at_ns=at_ns))
        return call


# -- servers -----------------------------------------------------------------------------------------------------------


class _ServerSpans(grpc.aio.ServerInterceptor):
    """Gives each RPC that belongs to a request a span, a child of the one that the request's headers name."""

    def __init__(self, tracer: Tracer, rate: float) -> None:
        self._tracer, self._rate = tracer, rate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See gRPC."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.request_streaming:
            return handler  # type: ignore[no-any-return]
        if not _belongs_to_requests(method, streaming=handler.response_streaming):
            return handler  # type: ignore[no-any-return]
        metadata = tuple(handler_call_details.invocation_metadata or ())
        if dropped := unsampled.received(metadata):
            unsampled.enter(dropped)
            return handler  # type: ignore[no-any-return]
        parent = _W3C.extract(dict(metadata), contexts.Context())
        if not _is_within(parent):
            if method.startswith("/control."):
                return handler  # type: ignore[no-any-return]  # the lab's own work, not a request's
            if dropped := unsampled.drawn(self._rate):
                unsampled.enter(dropped)
                return handler  # type: ignore[no-any-return]
        span = self._begun(method, metadata, parent, _SYSTEM)
        # gRPC runs each RPC in its own task, with which this ends.
        contexts.attach(trace.set_span_in_context(span))
        wrap = self._streaming if handler.response_streaming else self._unary
        return with_behaviour(handler, wrap(span, handler))

    def _begun(
        self, method: str, metadata: Sequence[tuple[str, Any]], parent: contexts.Context, by: Mapping[str, str]
    ) -> Span:
        span = self._tracer.start_span(method.lstrip("/"), parent, SpanKind.SERVER)
        span.set_attributes({**by, "rpc.method": method.lstrip("/"), **_of_metadata(metadata)})
        return span

    def spanned(self, method: str, headers: Sequence[tuple[str, str]], handler: Any) -> Any:
        """See :func:`lab.transport.tracing.spanned`."""

        async def behaviour(request: Any, context: Any) -> Any:
            dropped, parent = unsampled.received(headers), contexts.Context()
            if not dropped:
                parent = _W3C.extract(dict(headers), parent)
                dropped = () if _is_within(parent) else unsampled.drawn(self._rate)
            if dropped:
                with UnsampledRequest(dropped).current():
                    return await handler(request, context)
            span = self._begun(method, headers, parent, _REST)
            # A connection's requests share a task.
            token = contexts.attach(trace.set_span_in_context(span))
            response, code = None, ""
            try:
                response = await handler(request, context)
            except CallError as error:
                code = error.code.name
                raise
            else:
                return response
            finally:
                contexts.detach(token)
                _answer(span, request, context, response, _OK if response is not None else code or failure_of(context))

        return behaviour

    def _unary(self, span: Span, handler: Any) -> Any:
        async def behaviour(request: Any, context: Any) -> Any:
            response = None
            try:
                response = await handler.unary_unary(request, context)
                return response
            finally:
                _answer(span, request, context, response, _OK if response is not None else failure_of(context))

        return behaviour

    def _streaming(self, span: Span, handler: Any) -> Any:
        async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
            response, done = None, False
            try:
                async for response in handler.unary_stream(request, context):
                    yield response
                done = True
            finally:
                _answer(span, request, context, response, _OK if done else failure_of(context))

        return behaviour


def _answer(span: Span, request: Any, context: Any, response: Any, code: str) -> None:
    """Ends the span of an RPC with what its messages say; those that a gateway passes on are bytes."""
    envelope = getattr(request, "envelope", request)
    for name in ("use_case", "request_id"):
        if value := getattr(envelope, name, "") or getattr(response, name, ""):
            span.set_attribute(f"lab.{name}", _text(value))
    reported = AnswerMetadata.of_headers(context.trailing_metadata())
    revision = getattr(response, "revision", 0) or getattr(getattr(response, "answered_by", None), "revision", 0)
    key = getattr(response, "routing_key", "")
    span.set_attributes(_answered(reported.routing_key or key, reported.revision or revision))
    _end(span, code, is_error=code in _SERVER_ERRORS)
