"""Takes a node away, with everything that runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.faults.fault_kind import FaultKind
from lab.faults.kinds.process import KILL
from lab.faults.observation import Observation, seen
from lab.faults.settings import Number, by_level, number

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord

_NODES = Number("nodes", "number of equal nodes to spread the pods over; a cluster has its own", 2, 100, 3)


class NodeLoss(FaultKind):
    """Ends all units of one node at once.

    On Kubernetes the node is cordoned and its pods are deleted, so the cluster starts others elsewhere. The other
    runtimes have no nodes: the units that would share one are killed, and start when the fault is healed.
    """

    name = "node-loss"
    summary = "takes a node away: everything on it ends at once, and nothing starts there"
    targets = "a node of the cluster; on other runtimes `node-1` to `node-N`, over which the pods would be spread"
    settings = (_NODES,)
    levels = by_level(nodes=(4, 3, 2))
    group = "life"

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns the units on the node, all of which must be running."""
        nodes = context.nodes(int(number(settings, _NODES.name)))
        if not nodes.get(target):
            taken = ", ".join(node for node in nodes if nodes[node])
            raise InputError(f"{self.name}: no unit of this lab runs on {target!r}; nodes with units: {taken}")
        states = context.states()
        if idle := [name for name in nodes[target] if states.get(name) != "running"]:
            how = states.get(idle[0], "absent")
            raise InputError(f"{self.name} {target}: {idle[0]} is {how}; heal or start it first")
        return nodes[target]

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Takes the node away."""
        context.units.lose_node(fault.target, fault.units)
        return {}

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that none of the units runs on the node; elsewhere, that they have ended."""
        nodes = context.runtime().nodes()
        if not nodes:
            return KILL.observe(context, fault)
        there = sorted(set(nodes.get(fault.target, ())).intersection(fault.units))
        moved = {name: node for node, names in nodes.items() for name in names if name in fault.units}
        because = f"{len(fault.units) - len(there)} of {len(fault.units)} units are gone from {fault.target}"
        return seen(holds=not there, because=because, there=there, nodes=moved)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Brings the node back, and waits until all units answer; those that started elsewhere stay there."""
        present = [name for name in fault.units if context.unit(name) is not None]
        context.units.restore_node(fault.target, present)
        context.await_units(present)


NODE_LOSS = NodeLoss()
