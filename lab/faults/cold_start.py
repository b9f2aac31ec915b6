"""Faults of replicas and connections that are young: cold, churn."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from lab.faults.fault_context import CONTROL_S
from lab.faults.observation import seen, unknown
from lab.faults.process_faults import await_life
from lab.faults.settings import LIGHT, MEDIUM, SEVERE, SHARE, Number, number
from lab.faults.stub_faults import Dialled, rounded
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.faults.fault_context import Scene
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord

_ANSWERING_WITHIN = timedelta(seconds=45)
_LOADED_WITHIN = timedelta(seconds=30)
# Connections of a replica that nobody calls are few: its sidecars', at least, come back after each closing.
_WATCHED_S = 1.0
_CLOSINGS_WATCHED = 2
_COLD_PROBES = 4
_LEAST_MS = 2.0  # below, nobody can tell cold from busy


class Cold(Dialled):
    """Restarts replicas without what they had warmed up."""

    name = "cold"
    what = "restarts model replicas that then take their time to load, and are slow for the first requests"
    settings = (
        Number(
            "warm_up_s", "seconds that loading a model version takes; the replica gets no traffic until then", 0, 600
        ),
        Number(
            "ms", "milliseconds that the first request takes longer; the following ones a little less each", 0, 60_000
        ),
        Number("requests", "number of requests until it is warm", 0, 1_000_000),
        SHARE,
    )
    levels: ClassVar[Mapping[str, Mapping[str, float | str]]] = {
        LIGHT: {"warm_up_s": 1.0, "ms": 50.0, "requests": 50, "share": 0.0},
        MEDIUM: {"warm_up_s": 3.0, "ms": 200.0, "requests": 200, "share": 0.0},
        SEVERE: {"warm_up_s": 10.0, "ms": 1000.0, "requests": 1000, "share": 1.0},
    }
    group = "life"

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Kills, starts, and has it begin anew, cold, a few hundredths of a second after it answers."""
        settings = fault.settings
        cold = stub_pb2.Behaviour(
            warm_up_ms=number(settings, "warm_up_s") * 1_000,
            cold_ms=number(settings, "ms"),
            cold_requests=int(number(settings, "requests")),
        )
        for name in fault.units:
            scene.quiet_hands.kill(name)
            scene.quiet_hands.start(name)
        for name in fault.units:
            scene.await_answering(name, within=_ANSWERING_WITHIN)
            scene.turn(name, cold)
            scene.ask(name, lambda api: api.Reload(stub_pb2.ReloadRequest(), timeout=CONTROL_S))
        return {}

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """A replica is loading, or answers probes slowly that a warm one would not; each probe warms it a little."""
        loaded = scene.keys(fault.units)
        loading = [name for name in fault.units if name not in loaded]
        figures: dict[str, object] = {"loading": loading}
        if scene.control_plane() is None:
            return unknown("the control plane does not answer, which knows what is loaded", **figures)
        probed = self.probes(scene, fault, _COLD_PROBES)
        figures["median_ms"] = rounded({name: each.median_ms for name, each in probed.items() if name in loaded})
        requests = {name: int(scene.counts(name).requests) for name in fault.units}
        figures["requests_since"] = requests
        left = {name: self._left_ms(fault, requests[name]) for name in loaded if name in probed}
        slow = [name for name, ms in left.items() if ms >= _LEAST_MS and probed[name].median_ms >= ms / 2]
        because = f"{len(loading)} of {len(fault.units)} replicas are loading, {len(slow)} answer slowly"
        return seen(holds=len(loading) + len(slow) == len(fault.units), because=because, **figures)

    @staticmethod
    def _left_ms(fault: FaultRecord, requests: int) -> float:
        """How much longer a request takes after so many."""
        until_warm = number(fault.settings, "requests")
        left = max(0.0, until_warm - requests)
        return number(fault.settings, "ms") * left / until_warm if until_warm else 0.0

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """Warm: the time of loading as it was, and no cold requests."""
        return stub_pb2.Behaviour(warm_up_ms=before.warm_up_ms, cold_ms=0.0, cold_requests=0)

    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """Starts what was killed half-way; dials back, and loads anew what was loading."""
        there = [name for name in fault.memory.get("before", {}) if scene.unit(name) is not None]
        for name in there:
            scene.quiet_hands.start(name)
        await_life(scene, there)
        super().heal(scene, fault)
        loaded = scene.keys(there)
        for name in there:
            if name not in loaded:
                scene.ask(name, lambda api: api.Reload(stub_pb2.ReloadRequest(), timeout=CONTROL_S))
        if scene.control_plane() is not None:
            held: Mapping[str, str] = fault.memory.get("keys", {})
            eventually(
                "all have loaded again (still missing)",
                lambda: sorted(held.keys() - scene.keys(there).keys() - self._gone(scene, held)),
                within=_LOADED_WITHIN,
                until=lambda missing: not missing,
            )

    @staticmethod
    def _gone(scene: Scene, names: Mapping[str, str]) -> set[str]:
        return {name for name in names if scene.unit(name) is None}


class Churn(Dialled):
    """Closes connections again and again."""

    name = "churn"
    what = "closes all connections to model replicas again and again, whatever is in flight on them"
    settings = (Number("every_ms", "milliseconds from one closing to the next", 20, 600_000, 1_000), SHARE)
    levels: ClassVar[Mapping[str, Mapping[str, float | str]]] = {
        LIGHT: {"every_ms": 5_000.0},
        MEDIUM: {"every_ms": 1_000.0},
        SEVERE: {"every_ms": 100.0},
    }
    group = "connections"

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Dials it."""
        for name in fault.units:
            scene.turn(name, stub_pb2.Behaviour(churn_ms=number(fault.settings, "every_ms")))
        return {}

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Holds a connection of its own open, and looks whether it is closed."""
        every_s = number(fault.settings, "every_ms") / 1_000
        within_s = _CLOSINGS_WATCHED * every_s + _WATCHED_S
        closed = scene.watch_closing(fault.units, within_s=within_s)
        figures: dict[str, object] = {
            "closed_after_ms": rounded({name: s * 1_000 for name, s in closed.items()}),
            "watched_s": within_s,
            "closed_connections": {
                name: int(scene.counts(name).closed_connections) for name in fault.units if name in closed
            },
        }
        because = f"{len(closed)} of {len(fault.units)} replicas closed a connection within {within_s:g} s"
        return seen(holds=len(closed) == len(fault.units), because=because, **figures)

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """As often as before, which is never."""
        return stub_pb2.Behaviour(churn_ms=before.churn_ms)
