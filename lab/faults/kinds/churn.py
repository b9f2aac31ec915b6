"""Closes connections to model replicas again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.faults.observation import Observation, seen
from lab.faults.settings import SHARE, Number, by_level, number
from lab.faults.stub_faults import StubFault, rounded
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord

_WATCHED_S = 1.0
_CLOSINGS_WATCHED = 2


class Churn(StubFault):
    """Closes connections again and again."""

    name = "churn"
    summary = "closes all connections to model replicas at an interval, with requests in flight"
    past = "closing connections"
    settings = (Number("every_ms", "milliseconds from one closing to the next", 20, 600_000, 1_000), SHARE)
    levels = by_level(every_ms=(5_000.0, 1_000.0, 100.0))
    fields = ("churn_ms",)
    group = "connections"

    def changed(self, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        del name
        return stub_pb2.Behaviour(churn_ms=number(fault.settings, "every_ms"))

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Opens a connection to each replica and checks that it is closed."""
        every_s = number(fault.settings, "every_ms") / 1_000
        within_s = _CLOSINGS_WATCHED * every_s + _WATCHED_S
        closed = context.connection_lifetimes_s(fault.units, within_s=within_s)
        figures: dict[str, object] = {
            "closed_after_ms": rounded({name: s * 1_000 for name, s in closed.items()}),
            "watched_s": within_s,
            "closed_connections": {
                name: int(context.counts(name).closed_connections) for name in fault.units if name in closed
            },
        }
        because = f"{len(closed)} of {len(fault.units)} replicas closed a connection within {within_s:g} s"
        return seen(holds=len(closed) == len(fault.units), because=because, **figures)


CHURN = Churn()
