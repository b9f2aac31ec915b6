"""What faults share that change the behaviour of stub model replicas: slow, error, cold, churn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from lab.faults.fault_kind import FaultKind, replicas_of
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext, Probes
    from lab.faults.state import FaultRecord


class StubFault(FaultKind):
    """Changes the behaviour of replicas, and restores the fields that it has changed.

    Attributes:
        fields: of the behaviour, those that healing restores; ``latency`` stands for whichever latency is set.
    """

    targets = "a replica, or a share of a model cluster; `model` for all clusters"
    fields: ClassVar[tuple[str, ...]]

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns the target's replicas."""
        del settings
        return replicas_of(context.state(), target)

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Returns each replica's behaviour, a routing key to probe it with, and its request count."""
        before = {name: context.behaviour(name) for name in fault.units}
        keys = context.loaded_keys(fault.units)
        return {
            "before": {name: each.SerializeToString().hex() for name, each in before.items()},
            "keys": keys,
            "apis": context.apis(),
            "requests": {name: int(context.counts(name).requests) for name in fault.units},
        }

    @staticmethod
    def before(fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        """Returns a replica's behaviour before the fault."""
        return stub_pb2.Behaviour.FromString(bytes.fromhex(fault.memory["before"][name]))

    def probes(self, context: FaultContext, fault: FaultRecord, calls: int) -> dict[str, Probes]:
        """Probes, in parallel, the replicas that have a model version loaded."""
        keys: dict[str, str] = {**fault.memory["keys"], **context.loaded_keys(fault.units)}
        apis: dict[str, str] = fault.memory["apis"]
        if not apis.keys() >= set(keys.values()):  # a version that was published since
            apis = {**apis, **context.apis()}
        with ThreadPoolExecutor(max(1, len(keys))) as pool:
            found = pool.map(
                lambda name: context.probe(name, keys[name], calls, api=apis.get(keys[name], "ranking.v1")), keys
            )
            return {name: each for name, each in zip(keys, found, strict=True) if each is not None}

    @abstractmethod
    def changed(self, fault: FaultRecord, name: str) -> stub_pb2.Behaviour:
        """Returns the fields that this kind changes, with their new values for a replica."""

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Changes the behaviour of each replica."""
        for name in fault.units:
            context.set_behaviour(name, self.changed(fault, name))
        return {}

    def restored(self, before: stub_pb2.Behaviour) -> stub_pb2.Behaviour:
        """Returns the fields that this kind changes, with their values from before."""
        return fields_of(before, *self.fields)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Restores the behaviour. A replica that has exited since has lost the changed one anyway."""
        for name in fault.memory.get("before", {}):
            if context.keeps_behaviour(name):
                context.set_behaviour(name, self.restored(self.before(fault, name)))


def fields_of(behaviour: stub_pb2.Behaviour, *fields: str) -> stub_pb2.Behaviour:
    """Returns a behaviour with these fields alone; ``latency`` stands for whichever latency is set."""
    names = ((behaviour.WhichOneof("latency") or "constant") if each == "latency" else each for each in fields)
    return stub_pb2.Behaviour(**{name: getattr(behaviour, name) for name in names})


def requests_since(context: FaultContext, fault: FaultRecord) -> dict[str, int]:
    """Returns how many requests each running replica has received since the fault, probes included."""
    before: Mapping[str, int] = fault.memory["requests"]
    running = [name for name in before if context.states().get(name) == "running"]
    return {name: max(0, int(context.counts(name).requests) - before[name]) for name in running}


def seed_of(fault: FaultRecord, name: str) -> int:
    """Returns the seed of one replica's draws: replicas differ, and equal fault seeds give equal draws."""
    return Random(f"{fault.seed} {name}").getrandbits(32)  # noqa: S311 (no secret)


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the values with two decimals."""
    return {name: round(value, 2) for name, value in values.items()}
