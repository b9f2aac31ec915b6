"""The callers whose requests a fault can reach: by where the route table and the topologies lead them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.links import ROLE as LINK
from lab.links import target_of
from lab.roles import MODEL, ROLES, Placement
from lab.routing.document import RouteTable
from lab.routing.uses import keys_for
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.roles import Unit
    from lab.runtime.state import LabState


def callers_reached(state: LabState, document: Mapping[str, Any], units: Collection[str]) -> tuple[str, ...]:
    """The callers whose requests may pass through any of these units, in the lab's order.

    Args:
        state: of the lab.
        document: route table in force.
        units: names of units that a fault hits; others are passed over.
    """
    table = RouteTable.from_document(dict(document))
    hit = [unit for unit in state.plan.units if unit.name in units]
    return tuple(caller for caller in state.plan.callers if any(_passes(state, table, caller, unit) for unit in hit))


def _passes(state: LabState, table: RouteTable, caller: str, unit: Unit) -> bool:
    if unit.role == LINK:  # those that may reach its target
        target = target_of(unit.name)
        return any(_passes(state, table, caller, each) for each in state.plan.units if each.name == target)
    if unit.role == MODEL:
        versions = (table.versions.get(key) for key in keys_for(caller, table))
        return any(version is not None and version.cluster == unit.cluster for version in versions)
    if unit.name == caller:
        return True
    asked = {role for name in state.topologies for role in TOPOLOGIES[name].roles}
    return unit.role in asked and (ROLES[unit.role].placement is not Placement.BESIDE_CALLER or unit.pod == caller)


def reach_in_words(callers: Sequence[str], of: int) -> str:
    """E.g. ``reaches requests of 2 of 5 callers: homepage, recommendations``."""
    if not callers:
        return "reaches no caller's requests"
    return f"reaches requests of {len(callers)} of {of} callers: {', '.join(callers)}"
