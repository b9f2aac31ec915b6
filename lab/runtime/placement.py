"""Which units share a node: computed, where a runtime has no nodes of its own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.roles import Plan


def spread(plan: Plan, nodes: int) -> dict[str, list[str]]:
    """Node → the units that would run on it, on equal nodes.

    As a cluster does that is otherwise empty: each pod goes to the node with the fewest pods of its group, which is a
    model cluster or a role; among these to the one with the fewest pods.
    """
    names = [f"node-{number + 1}" for number in range(nodes)]
    pods: dict[str, list[str]] = {}
    for unit in plan.units:
        pods.setdefault(unit.pod, []).append(unit.name)
    placed: dict[str, list[str]] = {name: [] for name in names}
    members: Counter[tuple[str, str]] = Counter()
    filled: Counter[str] = Counter()
    for pod, units in pods.items():
        main = next((each for each in plan.units if each.name == pod), plan.unit(units[0]))
        group = main.cluster or main.role
        node = min(names, key=lambda name: (members[name, group], filled[name]))
        members[node, group] += 1
        filled[node] += 1
        placed[node] += units
    return placed
