"""Your own fault: restarts units at once, as a supervisor does with units that crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.faults.fault_kind import FaultKind
from lab.faults.observation import seen

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord


class Bounce(FaultKind):
    """Kills units and starts them again."""

    name, past = "bounce", "bounced"
    summary = "kills units and starts them again at once"
    targets = "a unit, or a share of a model cluster or of a role"
    runtimes = ("process",)
    elsewhere = "where a container keeps its id; kill it there, and heal that"
    group = "life"

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        return {"before": _pids(context, fault.units)}

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        for name in fault.units:
            context.unrecorded_units.kill(name)
            context.unrecorded_units.start(name)
        return {}

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        before, now = fault.memory["before"], _pids(context, fault.units)
        others = [name for name in fault.units if before[name] != now[name]]
        because = f"{len(others)} of {len(fault.units)} units have another process than before"
        return seen(holds=len(others) == len(fault.units), because=because, others=others)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        context.await_units(fault.units)


def _pids(context: FaultContext, names: tuple[str, ...]) -> dict[str, int]:
    return {name: context.state().running[name].pid for name in names}


BOUNCE = Bounce()
