"""Faults of whole units: killed, paused or cut off."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import InputError
from lab.faults.fault_context import FaultContext, Liveness
from lab.faults.fault_kind import FaultKind, units_of
from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import SEVERE

if TYPE_CHECKING:
    from lab.faults.state import FaultRecord

_IN_WORDS = {Liveness.ANSWERS: "answer", Liveness.REFUSES: "refuse", Liveness.SILENT: "say nothing"}


class ProcessFault(FaultKind):
    """A fault that consists of one operation on each of its units.

    Attributes:
        shown_by: how a unit under it may react to health checks.
        state: of a unit under it.
    """

    targets = "a unit, or a share of a model cluster or of a role"
    default_level = SEVERE
    group = "life"
    shown_by: ClassVar[tuple[Liveness, ...]]
    state: ClassVar[str]

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns the target's units, all of which must be running."""
        del settings
        names, states = [unit.name for unit in units_of(context.state(), target)], context.states()
        if idle := [name for name in names if states.get(name) != "running"]:
            how = states.get(idle[0], "absent")
            raise InputError(f"{self.name} {target}: {idle[0]} is {how}; heal or start it first")
        return names

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Hits one unit after the other."""
        for name in fault.units:
            self.hit(context, name)
        return {}

    @abstractmethod
    def hit(self, context: FaultContext, name: str) -> None:
        """Does the operation on one unit."""

    @abstractmethod
    def restore(self, context: FaultContext, name: str) -> None:
        """Undoes the operation on one unit of the lab; does nothing if the unit is as before."""

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks unit states and health checks, and reports which units the control plane still knows."""
        names, states, liveness = fault.units, context.states(), context.liveness(fault.units)
        if not liveness:
            return unknown("none of its units is in the lab any more", units=list(names))
        hit = [
            name
            for name, each in liveness.items()
            if each in self.shown_by and states.get(name, "exited") == self.state
        ]
        control_plane = context.control_plane(states)
        figures: dict[str, object] = {
            "units": len(names),
            "hit": len(hit),
            "states": {name: states.get(name, "absent") for name in names},
            "lives": {name: str(each) for name, each in liveness.items()},
        }
        if control_plane is not None:
            known = {each.replica for each in control_plane.replicas} | {each.node for each in control_plane.nodes}
            figures["known_to_the_control_plane"] = sorted(known.intersection(names))
        words = " or ".join(_IN_WORDS[each] for each in self.shown_by)
        because = f"{len(hit)} of {len(names)} units are {self.state} and {words}"
        return seen(holds=len(hit) == len(names), because=because, **figures)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Restores the units and waits until all answer and replicas are registered again."""
        present = [name for name in fault.units if context.unit(name) is not None]
        for name in present:
            self.restore(context, name)
        context.await_units(present)


class Kill(ProcessFault):
    """Ends units at once."""

    name = "kill"
    summary = "ends units at once (SIGKILL): they drain nothing"
    shown_by = (Liveness.REFUSES,)
    state = "exited"

    def hit(self, context: FaultContext, name: str) -> None:
        context.units.kill(name)

    def restore(self, context: FaultContext, name: str) -> None:
        context.units.start(name)


class Pause(ProcessFault):
    """Freezes units: a gray failure."""

    name = "pause"
    summary = "freezes units: connections stay open and nothing is answered (a gray failure)"
    shown_by = (Liveness.SILENT,)
    state = "paused"

    def hit(self, context: FaultContext, name: str) -> None:
        context.units.pause(name)

    def restore(self, context: FaultContext, name: str) -> None:
        """Resumes the unit, or starts it if it has been killed since."""
        if context.states().get(name, "exited") == "exited":
            context.units.start(name)
        else:
            context.units.resume(name)


class Partition(ProcessFault):
    """Cuts pods off from the network."""

    name = "partition"
    summary = "cuts units off from the network, each with its pod: they run, without traffic in or out"
    runtimes = ("compose",)
    elsewhere = (
        "where all units share one loopback; use `pause`, which also stops all answers, "
        "or bring the lab up with --runtime compose"
    )
    # Seen from outside, a container without a network is silent or refuses, depending on Docker's proxy.
    shown_by = (Liveness.REFUSES, Liveness.SILENT)
    state = "running"

    def choose(
        self, context: FaultContext, target: str, settings: Mapping[str, Any], random: Random
    ) -> tuple[str, ...]:
        """Chooses a share of the target's units, one of each pod."""
        chosen = super().choose(context, target, settings, random)
        plan = context.state().plan
        return tuple({plan.unit(name).pod: name for name in reversed(chosen)}.values())[::-1]

    def hit(self, context: FaultContext, name: str) -> None:
        context.units.partition(name)

    def restore(self, context: FaultContext, name: str) -> None:
        """Connects the unit's pod, unless it answers."""
        if context.liveness([name])[name] is not Liveness.ANSWERS:
            context.units.rejoin(name)


KILL, PAUSE, PARTITION = Kill(), Pause(), Partition()
