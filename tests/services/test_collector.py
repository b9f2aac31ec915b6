"""The collector keeps the latest spans, within its limits."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from lab.errors import UnitError
from lab.plain_text import is_plain
from services.collector.spans import StoredSpan, read_spans
from services.collector.store import SpanStore

HOSTILE = "\x1b[31m\r\n\u202e" + "x" * 10_000


def stored(number: int, size: int = 10) -> StoredSpan:
    return StoredSpan(f"{number:032x}", f"r-{number}", b"x" * size)


def kept(store: SpanStore, most: int) -> list[int]:
    return [number for number in range(most) if store.find(f"r-{number}")]


def exported(*spans: trace_pb2.Span, service: str = "model") -> ExportTraceServiceRequest:
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=service))])
    scope = trace_pb2.ScopeSpans(spans=spans)
    return ExportTraceServiceRequest(resource_spans=[trace_pb2.ResourceSpans(resource=resource, scope_spans=[scope])])


def test_the_oldest_make_room_by_number(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans", most_spans=3)) as store:
        for number in range(10):
            store.add([stored(number)])

        assert kept(store, 10) == [7, 8, 9]


def test_the_oldest_make_room_by_bytes(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans", most_bytes=1_000)) as store:
        store.add(stored(number, size=400) for number in range(10))

        assert kept(store, 10) == [8, 9]


def test_a_collector_that_returns_has_its_spans_and_its_limits(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans", most_spans=3)) as first:
        first.add(map(stored, range(3)))

    with closing(SpanStore(tmp_path / "spans", most_spans=3)) as store:
        store.add([stored(3)])

        assert kept(store, 4) == [1, 2, 3]


def test_a_trace_is_found_by_request_and_by_trace(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans")) as store:
        store.add(
            [StoredSpan("a" * 32, "r-1", b"1"), StoredSpan("a" * 32, "", b"2"), StoredSpan("b" * 32, "r-2", b"3")]
        )

        assert store.find("r-1") == store.find("a" * 32) == [b"1", b"2"]
        assert store.find("r-3") == []


def test_the_file_is_private_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "spans"
    file.touch(0o644)
    SpanStore(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    file.write_bytes(b"not a database" * 100)
    with pytest.raises(UnitError, match="cannot keep spans"):
        SpanStore(file)


def test_a_span_is_read_as_it_is() -> None:
    span = trace_pb2.Span(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        parent_span_id=b"p" * 8,
        name="/ranking.v1.Ranking/Rank",
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=1_000,
        end_time_unix_nano=1_500_000,
        attributes=[
            KeyValue(key="lab.request_id", value=AnyValue(string_value="r-1")),
            KeyValue(key="lab.revision", value=AnyValue(int_value=3)),
        ],
        status=trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR),
    )

    [found] = read_spans(exported(span))

    assert (found.trace_id, found.request_id) == (b"t".hex() * 16, "r-1")
    assert orjson.loads(found.document) == {
        "trace_id": b"t".hex() * 16,
        "span_id": b"s".hex() * 8,
        "parent_id": b"p".hex() * 8,
        "service": "model",
        "unit": "model",
        "name": "ranking.v1.Ranking/Rank",
        "kind": "server",
        "start_ns": 1_000,
        "ms": 1.499,
        "error": True,
        "attributes": {"lab.request_id": "r-1", "lab.revision": 3},
    }


def test_hostile_spans_are_dropped_or_made_plain_and_short() -> None:
    value = AnyValue(string_value=HOSTILE)
    nested = AnyValue(array_value=ArrayValue(values=[value] * 1_000))
    many = [KeyValue(key=f"{number}{HOSTILE}", value=value) for number in range(1_000)]
    spans = [
        trace_pb2.Span(trace_id=b"short", span_id=b"s" * 8),
        trace_pb2.Span(trace_id=b"t" * 16, span_id=b"long" * 8),
        trace_pb2.Span(trace_id=b"t" * 16, span_id=b"s" * 8, name=HOSTILE, attributes=many, parent_span_id=b"odd"),
        trace_pb2.Span(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=[KeyValue(key="nested", value=nested)]),
        trace_pb2.Span(trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=2**64 - 1, end_time_unix_nano=0),
    ]

    found = list(read_spans(exported(*spans, service=HOSTILE)))

    assert len(found) == 3
    for each in found:
        assert len(each.document) < 64 * 2 * 260 * 2
        document = orjson.loads(each.document)
        attributes = document["attributes"]
        texts = [document["name"], document["service"], *attributes, *map(str, attributes.values())]
        assert all(len(text) <= 256 and is_plain(text) for text in texts)
    assert orjson.loads(found[-1].document)["ms"] == 0
