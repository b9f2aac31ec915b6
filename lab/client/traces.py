"""A blocking client of the lab's collector: the spans of one request, as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from lab.errors import UnitError
from lab.reading import parse_json
from lab.transport import open_blocking_channel

SERVICE = "lab.traces.v1.Traces"
FIND = f"/{SERVICE}/Find"
"""Takes a request id or a trace id, in UTF-8; returns a JSON array of spans, see ``services/collector/spans.py``."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Span:
    """One unit's part of a request.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: span that it is a part of; empty for the root.
        service: that it was made by; replicas share its name.
        unit: the same, by the unit's own name.
        name: of the RPC, e.g. ``ranking.v1.Ranking/Rank``, or of the call.
        kind: ``server``, ``client`` or ``internal``.
        start_ns: Unix nanoseconds, by the unit's clock.
        ms: duration.
        error: whether it failed.
        attributes: by the conventions of OpenTelemetry for RPCs, and the lab's own, ``lab.request_id`` and so on.
    """

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    unit: str
    name: str
    kind: str
    start_ns: int
    ms: float
    error: bool
    attributes: Mapping[str, Any]


def find_spans(address: str, name: str) -> list[Span]:
    """The spans of the trace with this request id or trace id, by their start; empty if the collector has none.

    Args:
        address: ``host:port`` of the collector.
        name: the id.

    Raises:
        UnitError: the collector does not answer.
    """
    try:
        with open_blocking_channel(address) as channel:
            find: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(FIND)
            answer = find(name.encode(), timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        raise UnitError(f"the collector at {address} does not answer: {error.details()}; see `lab status`") from None
    return sorted((Span(**each) for each in parse_json(answer.decode())), key=lambda span: span.start_ns)


def in_order(spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """Yields each span with its depth, parents before their parts. A span whose parent is unknown counts as a root."""
    known = {span.span_id for span in spans}
    parts: dict[str, list[Span]] = {}
    for span in spans:
        parts.setdefault(span.parent_id if span.parent_id in known - {span.span_id} else "", []).append(span)
    waiting = [(0, span) for span in reversed(parts.pop("", []))]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, part) for part in reversed(parts.pop(span.span_id, []))]
