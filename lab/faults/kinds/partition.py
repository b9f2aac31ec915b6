"""Cuts pods off from the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.faults.fault_context import Liveness
from lab.faults.process_faults import ProcessFault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from lab.faults.fault_context import FaultContext


class Partition(ProcessFault):
    """Cuts pods off from the network."""

    name = "partition"
    summary = "cuts units off from the network, each with its pod: they run, without traffic in or out"
    runtimes = ("compose",)
    elsewhere = (
        "where all units share one loopback; pause it, which silences it likewise, "
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
        plan = context.state.plan
        return tuple({plan.unit(name).pod: name for name in reversed(chosen)}.values())[::-1]

    def hit(self, context: FaultContext, name: str) -> None:
        """Disconnects the unit's pod."""
        context.units.partition(name)

    def restore(self, context: FaultContext, name: str) -> None:
        """Connects the unit's pod, unless it answers."""
        if context.liveness([name])[name] is not Liveness.ANSWERS:
            context.units.rejoin(name)


PARTITION = Partition()
