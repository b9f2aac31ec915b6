"""Fails a share of the requests to model replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import SHARE, Number, by_level, number
from lab.faults.stub_faults import StubFault, requests_since, seed_of
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord

# So many probes, up to the maximum, that one observation in a thousand overlooks the fault.
_OVERLOOKED = 1e-3
_MOST_PROBES = 1_000
_INJECTED_ERROR = "INTERNAL"


class Error(StubFault):
    """Fails a share of requests."""

    name = "error"
    summary = "fails a share of the requests to model replicas with INTERNAL"
    past = "failing requests"
    settings = (Number("rate", "share of requests that fail", 0.001, 1, 0.1), SHARE)
    levels = by_level(rate=(0.01, 0.1, 0.5))
    fields = ("error_rate",)
    group = "errors"

    def changed(self, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        """Returns the error rate and the seed, so that the same requests fail again."""
        return stub_pb2.Behaviour(error_rate=number(fault.settings, "rate"), seed=seed_of(fault, name))

    def fails_share(self, settings: Mapping[str, Any]) -> float:
        """Returns the rate."""
        return number(settings, "rate")

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that some probes fail at each replica."""
        rate = number(fault.settings, "rate")
        calls = 1 if rate >= 1 else min(_MOST_PROBES, math.ceil(math.log(_OVERLOOKED) / math.log1p(-rate)))
        probed = self.probes(context, fault, calls)
        failed = {name: each.count(_INJECTED_ERROR) for name, each in probed.items()}
        figures = {"probes": calls, "failed": failed, "requests_since": requests_since(context, fault)}
        if not probed:
            return unknown("no replica that is hit has a model version loaded", **figures)
        failing = sum(count > 0 for count in failed.values())
        because = f"{failing} of {len(fault.units)} replicas fail some of {calls} probes"
        if not failing and (1 - rate) ** calls > _OVERLOOKED:
            return unknown(f"{because}: too few to say", **figures)
        return seen(holds=failing == len(fault.units), because=because, **figures)


ERROR = Error()
