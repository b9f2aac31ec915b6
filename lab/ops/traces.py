"""Finds the trace of one request, or says why there is none."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from lab.client.traces import Span, find_spans
from lab.errors import InputError
from lab.ops import inspect
from lab.roles import COLLECTOR

if TYPE_CHECKING:
    from lab.runtime.context import LabContext
    from lab.spec import TracesSpec

# Units export their spans twice a second.
_LOOKS, _PAUSE_S, _COMPLETE_S = 4, 0.7, 3.0


def spans(context: LabContext, name: str) -> list[Span]:
    """The spans of the trace with this request id or trace id, by their start; waits for those on their way.

    Raises:
        InputError: there is no such trace; says why.
        UnitError: the collector does not answer.
    """
    state = context.state()
    traces, lab = state.spec.traces, context.name
    of = "" if lab == "default" else f" --name {lab}"
    if traces is None:
        raise InputError(f"lab {lab} traces no requests: `lab down{of}`, then `lab up --traces 1{of}`")
    if traces.otlp:
        raise InputError(f"lab {lab} sends its traces to {traces.otlp}: look there")
    address = state.plan.unit(COLLECTOR).address
    found: list[Span] = []
    for _ in range(_LOOKS):
        before, found = found, find_spans(address, name)
        if found and (found == before or time.time() - found[-1].start_ns / 1e9 > _COMPLETE_S):  # noqa: TID251 (spans have it)
            return found
        time.sleep(_PAUSE_S)
    if not found:
        raise InputError(f"request {name!r}: {_why_not(context, name, traces)}")
    return found


def _why_not(context: LabContext, name: str, traces: TracesSpec) -> str:
    """Why the collector has no span of a request."""
    with suppress(InputError):
        inspect.logs(context, name)
        return (
            f"was not sampled (a share of {traces.rate:g} is, and requests whose traceparent says so), or newer traces "
            f"have taken its place; `lab logs` shows what units logged about it"
        )
    return f"lab {context.name} knows no such request or trace; `lab call` and a run's history show ids of requests"
