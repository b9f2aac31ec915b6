"""Takes the control plane away for a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.faults.fault_kind import FaultKind
from lab.faults.kinds.process import KILL, PAUSE, ProcessFault
from lab.faults.settings import Number, Word, by_level, number
from lab.roles import CONTROL_PLANE

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord


class ControlPlaneLoss(FaultKind):
    """Kills or freezes all control planes."""

    name = "control-plane-loss"
    summary = "takes the control plane away for a time: nothing changes, and nodes serve what they know"
    targets = "none: it hits the control plane; if there are several, all of them"
    settings = (
        Word("how", "freeze it, or end it; it keeps its revisions", ("pause", "kill"), "kill"),
        Number("seconds", "seconds after which it comes back by itself; 0: when the fault is healed", 0, 600),
    )
    levels = by_level(how=("pause", "kill", "kill"), seconds=(2.0, 5.0, 20.0))
    default_target = CONTROL_PLANE
    group = "life"

    def lasts_s(self, settings: Mapping[str, Any]) -> float:
        return number(settings, "seconds")

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns all control planes that run, as each of them knows all there is to know."""
        del settings
        if target != CONTROL_PLANE:
            raise InputError(f"{self.name}: {target!r} is not a target; leave it out, or kill or pause {target}")
        running = [unit.name for unit in context.control_planes()]
        if not running:
            how = context.states().get(CONTROL_PLANE, "absent")
            raise InputError(f"{self.name}: the control plane is {how} already; heal or start it first")
        return running

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        return self._how(fault).inject(context, fault)

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        return self._how(fault).observe(context, fault)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Waits until it answers again. Nodes reconnect to it within a second."""
        self._how(fault).heal(context, fault)

    @staticmethod
    def _how(fault: FaultRecord) -> ProcessFault:
        return PAUSE if fault.settings["how"] == "pause" else KILL


CONTROL_PLANE_LOSS = ControlPlaneLoss()
