"""Spans as the collector keeps them: checked and shortened, as any unit could send anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from opentelemetry.proto.trace.v1 import trace_pb2

from lab.plain_text import printable
from lab.transport.trace_settings import MAX_ATTRIBUTE_CHARACTERS

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_MOST_ATTRIBUTES = 64
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_KINDS = {
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
}
_LARGEST = 2**63 - 1  # SQLite's, and JSON readers'


class StoredSpan(NamedTuple):
    """A span for the store.

    Attributes:
        trace_id: 32 hexadecimal digits.
        request_id: of the lab's request that it belongs to; empty if it names none.
        document: the span in JSON, see :func:`read_spans`.
    """

    trace_id: str
    request_id: str
    document: bytes


def read_spans(request: ExportTraceServiceRequest) -> Iterator[StoredSpan]:
    """Yields the spans of an export that have valid ids; the others are dropped.

    A document has ``trace_id``, ``span_id``, ``parent_id`` (empty for a root), ``service``, ``unit``, ``name``,
    ``kind`` (``server``, ``client`` or ``internal``), ``start_ns`` (Unix nanoseconds), ``ms``, ``error`` (a boolean)
    and ``attributes``. Texts have 256 characters at most, and no control characters.
    """
    for resource in request.resource_spans:
        of_unit = _attributes(resource.resource.attributes)
        service, unit = (str(of_unit.get(name, "")) for name in ("service.name", "service.instance.id"))
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == _TRACE_ID_BYTES and len(span.span_id) == _SPAN_ID_BYTES:
                    yield _stored(span, service, unit or service)


def _stored(span: trace_pb2.Span, service: str, unit: str) -> StoredSpan:
    attributes = _attributes(span.attributes)
    document = {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex() if len(span.parent_span_id) == _SPAN_ID_BYTES else "",
        "service": service,
        "unit": unit,
        "name": _text(span.name.removeprefix("/")),  # an Envoy's is a path
        "kind": _KINDS.get(span.kind, "internal"),
        "start_ns": min(span.start_time_unix_nano, _LARGEST),
        "ms": max(span.end_time_unix_nano - span.start_time_unix_nano, 0) / 1e6,
        "error": span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        "attributes": attributes,
    }
    return StoredSpan(span.trace_id.hex(), str(attributes.get("lab.request_id", "")), orjson.dumps(document))


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {_text(pair.key): _plain(pair.value) for pair in islice(pairs, _MOST_ATTRIBUTES)}


def _plain(value: AnyValue) -> str | int | float | bool:
    kind = value.WhichOneof("value")
    if kind in ("int_value", "double_value", "bool_value"):
        number: int | float | bool = getattr(value, kind)
        return number
    return _text(value.string_value)


def _text(text: str) -> str:
    return printable(text, MAX_ATTRIBUTE_CHARACTERS)
