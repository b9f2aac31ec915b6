"""Adds to the service time of model replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import SHARE, Number, by_level, number
from lab.faults.stub_faults import StubFault, fields_of, requests_since, rounded, seed_of
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext, Probes
    from lab.faults.state import FaultRecord

_PROBES = 8


class Slow(StubFault):
    """Adds to the service time."""

    name = "slow"
    summary = "adds to the service time of model replicas"
    past = "slowed down"
    settings = (
        Number("ms", "milliseconds that are added, the median if they vary", 1, 60_000, 100.0),
        Number("sigma", "0: constant; else service times are lognormal with this standard deviation of the log", 0, 5),
        SHARE,
    )
    levels = by_level(ms=(20.0, 100.0, 500.0))
    fields = ("latency",)
    group = "latency"

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Returns the state of all stub faults, and latencies before this one."""
        memory = super().prepare(context, fault)
        probed = self.probes(context, fault.remembering(memory), _PROBES)
        return {**memory, "latency_ms": _latencies_ms(fault, probed)}

    def changed(self, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        """Returns the slower latency; with a sigma also the seed, so that the same requests are slow again."""
        ms, sigma = number(fault.settings, "ms"), number(fault.settings, "sigma")
        slower = fields_of(self.before(fault, name), "latency")
        if sigma:
            base = slower.lognormal.median_ms or slower.constant.ms or slower.load_dependent.ms
            lognormal = stub_pb2.LognormalLatency(median_ms=base + ms, sigma=sigma)
            return stub_pb2.Behaviour(lognormal=lognormal, seed=seed_of(fault, name))
        match slower.WhichOneof("latency"):
            case "lognormal":
                slower.lognormal.median_ms += ms
            case "load_dependent":
                slower.load_dependent.ms += ms
            case _:
                slower.constant.ms += ms
        return slower

    def adds_ms(self, settings: Mapping[str, Any]) -> float:
        """Returns what is added; with a sigma to the median, so that at least half of the requests take as long."""
        return number(settings, "ms")

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that probes take longer by half of what was added: the fastest, or the median if latencies vary."""
        before: Mapping[str, float] = fault.memory["latency_ms"]
        probed = _latencies_ms(fault, self.probes(context, fault, _PROBES))
        now = {name: ms for name, ms in probed.items() if name in before}
        which = "median" if _vary(fault) else "fastest"
        figures = {
            f"{which}_before_ms": rounded(before),
            f"{which}_ms": rounded(now),
            "requests_since": requests_since(context, fault),
        }
        if not now:
            return unknown("no replica that is hit has a model version loaded", **figures)
        slower = [name for name, ms in now.items() if ms - before[name] >= number(fault.settings, "ms") / 2]
        because = (
            f"{len(slower)} of {len(fault.units)} replicas are slower by about {number(fault.settings, 'ms'):g} ms"
        )
        return seen(holds=len(slower) == len(fault.units), because=because, **figures)


def _latencies_ms(fault: FaultRecord, probed: Mapping[str, Probes]) -> dict[str, float]:
    """Returns each replica's fastest probe, which load affects least, or the median if latencies vary."""
    return {name: each.median_ms if _vary(fault) else each.fastest_ms for name, each in probed.items()}


def _vary(fault: FaultRecord) -> bool:
    return number(fault.settings, "sigma") > 0


SLOW = Slow()
