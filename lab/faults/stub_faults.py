"""Faults that are dialled at model replicas: slow, error."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from lab.faults.kind import Kind, replicas_of, some_of
from lab.faults.observation import seen, unknown
from lab.faults.settings import LIGHT, MEDIUM, SEVERE, SHARE, Number, number
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.faults.fault_context import Probes, Scene
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord

_PROBES = 8
# With so many probes, or the most that there are, one error in a thousand observations is overlooked.
_OVERLOOKED = 1e-3
_MOST_PROBES = 1_000
_INJECTED_ERROR = "INTERNAL"


class Dialled(Kind):
    """Turns dials of replicas, and turns them back to where they were."""

    targets = "a model cluster, of which the share is hit, or one replica; `model` for all there are"

    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """Replicas, by the share."""
        return some_of(replicas_of(scene.state, target), settings, random)

    def prepare(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """How the dials stand, and whom to ask for what."""
        before = {name: scene.behaviour(name) for name in fault.units}
        keys = scene.keys(fault.units)
        return {
            "before": {name: each.SerializeToString().hex() for name, each in before.items()},
            "keys": keys,
            "requests": {name: int(scene.counts(name).requests) for name in fault.units},
        }

    @staticmethod
    def before(fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        """How the dials of a replica stood."""
        return stub_pb2.Behaviour.FromString(bytes.fromhex(fault.memory["before"][name]))

    def probes(self, scene: Scene, fault: FaultRecord, calls: int) -> dict[str, Probes]:
        """Probe calls to those of the replicas that hold something to ask for, all at the same time."""
        keys: dict[str, str] = {**fault.memory["keys"], **scene.keys(fault.units)}
        with ThreadPoolExecutor(max(1, len(keys))) as pool:
            found = pool.map(lambda name: scene.probe(name, keys[name], calls), keys)
            return {name: each for name, each in zip(keys, found, strict=True) if each is not None}

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """The dials that this kind has turned, as they were."""
        raise NotImplementedError

    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """Turns the dials back; a replica that has ended since has forgotten all of it by itself."""
        for name in fault.memory.get("before", {}):
            if scene.can_be_dialled(name):
                scene.turn(name, self.restored(self.before(fault, name)))


class Slow(Dialled):
    """Adds to the service time."""

    name = "slow"
    what = "adds to the service time of model replicas"
    settings = (
        Number("ms", "milliseconds that are added, the median if they vary", 1, 60_000, 100.0),
        Number("sigma", "0: constant; else service times are lognormal with this standard deviation of the log", 0, 5),
        SHARE,
    )
    levels: ClassVar[Mapping[str, Mapping[str, float | str]]] = {
        LIGHT: {"ms": 20.0},
        MEDIUM: {"ms": 100.0},
        SEVERE: {"ms": 500.0},
    }
    group = "latency"

    def prepare(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Also how fast they are now."""
        memory = super().prepare(scene, fault)
        probed = self.probes(scene, fault.remembering(memory), _PROBES)
        return {**memory, "latency_ms": _latencies_ms(fault, probed)}

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Dials the slower latency; with a sigma also the seed, so that the same requests are slow again."""
        for name in fault.units:
            scene.turn(name, _slower(self.before(fault, name), fault, name))
        return {}

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Each replica's fastest probe, or the median if latencies vary, takes longer by half of what was added."""
        before: Mapping[str, float] = fault.memory["latency_ms"]
        probed = _latencies_ms(fault, self.probes(scene, fault, _PROBES))
        now = {name: ms for name, ms in probed.items() if name in before}
        which = "median" if _vary(fault) else "fastest"
        figures = {
            f"{which}_before_ms": rounded(before),
            f"{which}_ms": rounded(now),
            "requests_since": requests_since(scene, fault),
        }
        if not now:
            return unknown("no replica that is hit holds a model version to ask for", **figures)
        slower = [name for name, ms in now.items() if ms - before[name] >= number(fault.settings, "ms") / 2]
        because = (
            f"{len(slower)} of {len(fault.units)} replicas are slower by {number(fault.settings, 'ms'):g} ms or so"
        )
        return seen(holds=len(slower) == len(fault.units), because=because, **figures)

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """The latency."""
        return latency_of(before)


class Error(Dialled):
    """Fails a share of requests."""

    name = "error"
    what = "fails a share of the requests to model replicas with INTERNAL"
    settings = (Number("rate", "share of requests that fail", 0.001, 1, 0.1), SHARE)
    levels: ClassVar[Mapping[str, Mapping[str, float | str]]] = {
        LIGHT: {"rate": 0.01},
        MEDIUM: {"rate": 0.1},
        SEVERE: {"rate": 0.5},
    }
    group = "errors"

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Dials rate and seed: the same requests fail again."""
        rate = number(fault.settings, "rate")
        for name in fault.units:
            scene.turn(name, stub_pb2.Behaviour(error_rate=rate, seed=seed_of(fault, name)))
        return {}

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Some of enough probes fail."""
        rate = number(fault.settings, "rate")
        calls = 1 if rate >= 1 else min(_MOST_PROBES, math.ceil(math.log(_OVERLOOKED) / math.log1p(-rate)))
        probed = self.probes(scene, fault, calls)
        failed = {name: each.count(_INJECTED_ERROR) for name, each in probed.items()}
        figures = {"probes": calls, "failed": failed, "requests_since": requests_since(scene, fault)}
        if not probed:
            return unknown("no replica that is hit holds a model version to ask for", **figures)
        failing = sum(count > 0 for count in failed.values())
        because = f"{failing} of {len(fault.units)} replicas fail some of {calls} probes"
        if not failing and (1 - rate) ** calls > _OVERLOOKED:
            return unknown(f"{because}: too few to say", **figures)
        return seen(holds=failing == len(fault.units), because=because, **figures)

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """The error rate."""
        return stub_pb2.Behaviour(error_rate=before.error_rate)


def _latencies_ms(fault: FaultRecord, probed: Mapping[str, Probes]) -> dict[str, float]:
    """Of each replica: the fastest answer, which a busy machine lengthens least, where all are to be slower alike."""
    return {name: each.median_ms if _vary(fault) else each.fastest_ms for name, each in probed.items()}


def _vary(fault: FaultRecord) -> bool:
    return number(fault.settings, "sigma") > 0


def requests_since(scene: Scene, fault: FaultRecord) -> dict[str, int]:
    """How many requests each replica that answers has received since the fault, probes among them."""
    before: Mapping[str, int] = fault.memory["requests"]
    there = [name for name in before if scene.states().get(name) == "running"]
    return {name: max(0, int(scene.counts(name).requests) - before[name]) for name in there}


def seed_of(fault: FaultRecord, name: str) -> int:
    """The seed of one replica's draws: they differ from each other's, and are the same again with the fault's."""
    return Random(f"{fault.seed} {name}").getrandbits(32)  # noqa: S311 (no secret)


def latency_of(behaviour: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
    """The latency alone."""
    latency = stub_pb2.Behaviour()
    match behaviour.WhichOneof("latency"):
        case "lognormal":
            latency.lognormal.CopyFrom(behaviour.lognormal)
        case "load_dependent":
            latency.load_dependent.CopyFrom(behaviour.load_dependent)
        case _:
            latency.constant.CopyFrom(behaviour.constant)
    return latency


def _slower(before: stub_pb2.Behaviour, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
    ms, sigma = number(fault.settings, "ms"), number(fault.settings, "sigma")
    slower = latency_of(before)
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


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """For people to read."""
    return {name: round(value, 2) for name, value in values.items()}
