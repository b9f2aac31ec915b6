"""What faults of whole units share: killed, paused or cut off."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import InputError
from lab.faults.fault_context import Liveness
from lab.faults.fault_kind import FaultKind, by_share, some_of, units_of
from lab.faults.observation import seen, unknown
from lab.faults.settings import SEVERE, SHARE
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from lab.faults.fault_context import FaultContext
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord

BACK_WITHIN = timedelta(seconds=45)
_IN_WORDS = {Liveness.ANSWERS: "answer", Liveness.REFUSES: "refuse", Liveness.SILENT: "say nothing"}


class ProcessFault(FaultKind):
    """A fault that consists of one operation on each of its units.

    Attributes:
        shown_by: how a unit under it may react to health checks.
        state: of a unit under it.
    """

    targets = "a unit; a model cluster or a role, of which the share is hit"
    settings = (SHARE,)
    levels = by_share()
    default_level = SEVERE
    group = "life"
    shown_by: ClassVar[tuple[Liveness, ...]]
    state: ClassVar[str]

    def choose(
        self, context: FaultContext, target: str, settings: Mapping[str, Any], random: Random
    ) -> tuple[str, ...]:
        """Chooses a share of the target's units, all of which must be running."""
        units, states = units_of(context.state, target), context.states()
        if idle := [unit.name for unit in units if states.get(unit.name) != "running"]:
            how = states.get(idle[0], "absent")
            raise InputError(f"{self.name} {target}: {idle[0]} is {how}; heal or start it first")
        return some_of(units, settings, random)

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
        return observe_units(context, fault.units, self.state, self.shown_by)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Restores the units and waits until all answer and replicas are registered again."""
        present = [name for name in fault.units if context.unit(name) is not None]
        for name in present:
            self.restore(context, name)
        await_units(context, present)


def observe_units(
    context: FaultContext, names: tuple[str, ...], state: str, shown_by: tuple[Liveness, ...]
) -> Observation:
    """Checks whether units are in a state and react to health checks like this."""
    states, liveness = context.states(), context.liveness(names)
    if not liveness:
        return unknown("the lab has none of the units any more", units=list(names))
    hit = [name for name, each in liveness.items() if each in shown_by and states.get(name, "exited") == state]
    control_plane = context.control_plane(states)
    figures: dict[str, object] = {
        "units": len(names),
        "hit": len(hit),
        "states": {name: states.get(name, "absent") for name in names},
        "lives": {name: str(each) for name, each in liveness.items()},
    }
    if control_plane is not None:
        known = {replica.replica for replica in control_plane.replicas} | {each.node for each in control_plane.nodes}
        figures["known_to_the_control_plane"] = sorted(known.intersection(names))
    words = " or ".join(_IN_WORDS[each] for each in shown_by)
    because = f"{len(hit)} of {len(names)} units are {state} and {words}"
    return seen(holds=len(hit) == len(names), because=because, **figures)


def await_units(context: FaultContext, names: list[str]) -> None:
    """Returns once these units answer, and their replicas are registered if the control plane answers.

    Raises:
        DeadlineError: some do not; the message names them.
    """
    replicas = {name for name in names if (unit := context.unit(name)) is not None and unit.cluster}

    def missing() -> list[str]:
        liveness = context.liveness(names)
        if silent := sorted(name for name, each in liveness.items() if each is not Liveness.ANSWERS):
            return silent
        known = context.control_plane() if replicas else None
        return sorted(replicas - {each.replica for each in known.replicas}) if known else []

    eventually("all answer again (still missing)", missing, within=BACK_WITHIN, until=lambda names: not names)
