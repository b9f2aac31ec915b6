"""``lab trace``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import grpc
import typer
from rich.text import Text

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.client.traces import Span, in_order
from lab.lab import Lab

_BAR = 20
_SHOWN = {
    "lab.use_case": "use case",
    "lab.request_id": "request",
    "lab.routing_key": "routing key",
    "lab.revision": "revision",
}


def trace(
    request_id: Annotated[str, typer.Argument(help="Request id, or the 32 digits of a trace id.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show the trace of one request: what each unit did for it, as part of what, and when.

    The lab must have been brought up with --traces.

    Example: lab trace 1f0c2a9be1d3-00000001
    """
    spans = Lab(name).trace(request_id)
    if as_json:
        print_json({"trace_id": spans[0].trace_id, "spans": [asdict(span) for span in spans]})
        return
    _show(spans)


def _show(spans: Sequence[Span]) -> None:
    began = min(span.start_ns for span in spans)
    whole_ms = max((span.start_ns - began) / 1e6 + span.ms for span in spans)
    rows = [_row(depth, span, began, whole_ms) for depth, span in in_order(spans)]
    headings = ("unit", "span", "kind", "at ms", "ms", "status", "time line")
    console.print(table(headings, rows, right=("at ms", "ms"), optional=("time line", "kind")))
    known = {name: value for span in spans for name, value in span.attributes.items() if name in _SHOWN}
    console.print(f"\ntrace {spans[0].trace_id}: {len(spans)} spans, {whole_ms:.1f} ms", markup=False)
    console.print(", ".join(f"{_SHOWN[name]} {known[name]}" for name in _SHOWN if name in known), markup=False)


def _row(depth: int, span: Span, began: int, whole_ms: float) -> tuple[object, ...]:
    at_ms = (span.start_ns - began) / 1e6
    first = round(_BAR * at_ms / whole_ms) if whole_ms else 0
    length = max(1, round(_BAR * span.ms / whole_ms) if whole_ms else 1)
    bar = Text(" " * min(first, _BAR - 1) + "█" * min(length, _BAR), "red" if span.error else "")
    status = _status(span)
    name = span.name.rpartition(".")[2].removeprefix("call ")  # a method without its package, or a use case
    return (f"{'  ' * depth}{span.unit}", name, span.kind, f"{at_ms:.2f}", f"{span.ms:.2f}", status, bar)


def _status(span: Span) -> str:
    """Name of the gRPC status; Envoys give its number."""
    attributes = span.attributes
    if number := attributes.get("grpc.status_code"):
        return next((code.name for code in grpc.StatusCode if str(code.value[0]) == number), str(number))
    return str(attributes.get("rpc.response.status_code") or attributes.get("error.type", ""))
