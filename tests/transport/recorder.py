"""Keeps the spans of this process in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lab.transport.spans import Spans
from lab.transport.trace_settings import TraceSettings


class Recorder:
    """Turns traces on in this process; all of them are kept in memory."""

    def __init__(self, rate: float) -> None:
        self._exporter = InMemorySpanExporter()
        settings = TraceSettings(endpoint="", peer="", rate=rate, service="unit", unit="unit-1")
        self.spans = Spans(settings, self._exporter)

    def finished(self) -> list[ReadableSpan]:
        self.spans.flush()
        return list(self._exporter.get_finished_spans())
