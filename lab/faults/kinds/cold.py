"""Restarts model replicas without their warm state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lab.faults.fault_context import CONTROL_S, FaultContext
from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import SHARE, Number, by_level, number
from lab.faults.stub_faults import StubFault, rounded
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from lab.faults.state import FaultRecord

_ANSWERING_WITHIN = timedelta(seconds=45)
_LOADED_WITHIN = timedelta(seconds=30)
_PROBES = 4
_LEAST_MS = 2.0  # a shorter delay cannot be distinguished from a busy machine


class Cold(StubFault):
    """Restarts replicas without their warm state."""

    name = "cold"
    summary = "restarts model replicas that then take time to load, and are slow for the first requests"
    past = "restarted cold"
    settings = (
        Number(
            "warm_up_s", "seconds that loading a model version takes; the replica gets no traffic until then", 0, 600
        ),
        Number("ms", "milliseconds that the first request takes longer; each following one a little less", 0, 60_000),
        Number("requests", "number of requests until it is warm", 0, 1_000_000),
        SHARE,
    )
    levels = by_level(
        warm_up_s=(1.0, 3.0, 10.0), ms=(50.0, 200.0, 1000.0), requests=(50, 200, 1000), share=(0.0, 0.0, 1.0)
    )
    group = "life"

    def changed(self, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        del name
        return stub_pb2.Behaviour(
            warm_up_ms=number(fault.settings, "warm_up_s") * 1_000,
            cold_ms=number(fault.settings, "ms"),
            cold_requests=int(number(fault.settings, "requests")),
        )

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Restarts the replicas, makes them cold once they answer, and has them load their models again."""
        for name in fault.units:
            context.unrecorded_units.kill(name)
            context.unrecorded_units.start(name)
        for name in fault.units:
            context.await_control(name, within=_ANSWERING_WITHIN)
            context.set_behaviour(name, self.changed(fault, name))
            _reload(context, name)
        return {}

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that each replica is loading, or slower than a warm one. Each probe warms it a little."""
        loaded = context.loaded_keys(fault.units)
        loading = [name for name in fault.units if name not in loaded]
        figures: dict[str, object] = {"loading": loading}
        if context.control_plane() is None:
            return unknown("the control plane does not answer, which knows what is loaded", **figures)
        probed = self.probes(context, fault, _PROBES)
        figures["median_ms"] = rounded({name: each.median_ms for name, each in probed.items() if name in loaded})
        requests = {name: int(context.counts(name).requests) for name in fault.units}
        figures["requests_since"] = requests
        left = {name: self._left_ms(fault, requests[name]) for name in loaded if name in probed}
        slow = [name for name, ms in left.items() if ms >= _LEAST_MS and probed[name].median_ms >= ms / 2]
        because = f"{len(loading)} of {len(fault.units)} replicas are loading, {len(slow)} answer slowly"
        return seen(holds=len(loading) + len(slow) == len(fault.units), because=because, **figures)

    @staticmethod
    def _left_ms(fault: FaultRecord, requests: int) -> float:
        """Returns how much longer a request takes after this many."""
        until_warm = number(fault.settings, "requests")
        left = max(0.0, until_warm - requests)
        return number(fault.settings, "ms") * left / until_warm if until_warm else 0.0

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """Returns a warm behaviour: the loading time from before, and no cold requests."""
        return stub_pb2.Behaviour(warm_up_ms=before.warm_up_ms, cold_ms=0.0, cold_requests=0)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Starts replicas that are not running, restores their behaviour, and reloads those that were loading."""
        present = [name for name in fault.memory.get("before", {}) if context.unit(name) is not None]
        for name in present:
            context.unrecorded_units.start(name)
        context.await_units(present)
        super().heal(context, fault)
        loaded = context.loaded_keys(present)
        for name in present:
            if name not in loaded:
                _reload(context, name)
        if context.control_plane() is not None:
            held: Mapping[str, str] = fault.memory.get("keys", {})
            gone = {name for name in held if context.unit(name) is None}
            eventually(
                "all have loaded again (still missing)",
                lambda: sorted(held.keys() - context.loaded_keys(present).keys() - gone),
                within=_LOADED_WITHIN,
                until=lambda missing: not missing,
            )


def _reload(context: FaultContext, name: str) -> None:
    context.control(name, lambda api: api.Reload(stub_pb2.ReloadRequest(), timeout=CONTROL_S))


COLD = Cold()
